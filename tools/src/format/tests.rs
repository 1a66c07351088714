//! The page of small formats.

use std::io;

use syn::Type;

use super::layout::Names;
use super::source::{self, Chapter};
use super::*;

const A: &str = "//! Folder text, with a [`b`] in it.
    use crate::limits::TAG_SIZE;
    /// The magic.
    pub const MAGIC: [u8; 4] = *b\"AB\\x00C\";
    const TWICE: usize = 2 * size_of::<Inner>();
    const _: () = assert!(size_of::<Outer>() == 0x30 - 4);
    /// Around.
    #[derive(Clone)]
    #[repr(C)]
    pub struct Outer {
        /// See [`Kind`] | [`MAGIC`].
        pub magic: [u8; 4],
        /// Two.
        pub inners: [Inner; 2],
        pub tag: [u8; TAG_SIZE],
        pub rest: [u8; TWICE],
    }
    /// Within.
    #[repr(C)]
    pub struct Inner { pub a: U16, pub b: U32 }
    /// Not on disk.
    pub struct Unrelated { pub a: String }
    /// Kinds.
    pub enum Kind {
        /// First.
        A,
        /// Second.
        B { x: u8 },
    }
    impl Kind {
        /// Never reused.
        pub fn code(&self) -> u8 { match self { Kind::B { .. } => 2, Kind::A => 1 } }
    }";

const LIMITS: &str = "/// Bytes of a tag.
    pub const TAG_SIZE: usize = 1 << 4;
    pub const UNUSED: usize = 7;";

fn page_of(files: &[(&str, &str)]) -> io::Result<String> {
    let parse = |(name, text): &(&str, &str)| source::parse(text, name).map_err(io::Error::other);
    let chapters: Vec<Chapter> = files.iter().map(parse).collect::<io::Result<_>>()?;
    let limits = parse(&("limits", LIMITS))?;
    let names = Names::new(&chapters, &limits)?;
    // A folder without golden images.
    let no_images = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    page::render(&chapters, &names, &no_images)
}

#[test]
fn the_page_is_what_the_sources_say() {
    if let Err(error) = check(&crate::workspace::root()) {
        panic!("{error}");
    }
}

#[test]
fn a_difference_is_found_where_it_begins() {
    assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
    assert_eq!(first_difference("a\nb\n", "a\n"), Some(2));
    assert_eq!(first_difference("a\n", ""), Some(1));
}

#[test]
fn offsets_and_sizes_add_up() {
    let page = page_of(&[("mod", "//! The whole."), ("a", A)]).unwrap();
    for line in [
        "The whole.",
        "## A",
        "Folder text, with a `b` in it.",
        "| `MAGIC` | `41 42 00 43` (AB\\x00C) | The magic. |",
        "| `TAG_SIZE` | 16 (0x10) | Bytes of a tag. |",
        "Around. 44 bytes (0x2c).",
        "| `000` | 0 | 4 | `magic` | `[u8; 4]` | See `Kind` \\| `MAGIC`. |",
        "| `004` | 4 | 12 | `inners` | 2 times [Inner](#inner) | Two. |",
        "| `010` | 16 | 16 | `tag` | `[u8; 16]` |  |",
        "| `020` | 32 | 12 | `rest` | `[u8; 12]` |  |",
        "| `002` | 2 | 4 | `b` | `U32` |  |",
        "Kinds. Never reused.",
        "| 1 | `A` | First. |",
        "| 2 | `B` | Second. |",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\nis not in\n{page}");
    }
    assert!(!page.contains("Unrelated") && !page.contains("UNUSED"), "{page}");
}

#[test]
fn a_name_means_what_the_module_means_by_it() {
    let b = "use super::a::Outer;
        /// Another.
        #[repr(C)]
        pub struct Inner { pub only: u8 }
        #[repr(C)]
        pub struct User { pub inner: Inner, pub outer: Outer }
        const _: () = assert!(size_of::<User>() == 45);";
    let page = page_of(&[("a", A), ("b", b)]).unwrap();
    assert!(page.contains("### Inner of A\n\nWithin. 6 bytes"), "{page}");
    assert!(page.contains("### Inner of B\n\nAnother. 1 bytes"), "{page}");
    assert!(page.contains("| `inner` | [Inner of B](#inner-of-b) |"), "{page}");
    assert!(page.contains("2 times [Inner of A](#inner-of-a)"), "{page}");
}

#[test]
fn what_is_not_understood_is_an_error() {
    let of = |text: &str| page_of(&[("a", text)]).unwrap_err().to_string();
    let wrong = A.replace("0x30 - 4", "0x30");
    assert!(of(&wrong).contains("48 bytes are asserted, 44 computed"));
    assert!(of("#[repr(C)] struct X { a: u32 }").contains("u32"), "aligned types leave gaps");
    assert!(of("#[repr(C)] struct X { a: [u8; NOWHERE] }").contains("NOWHERE"));
    assert!(of("#[repr(C)] struct X(u8);").contains("named fields"));
    assert!(page_of(&[("a", "struct X {")]).is_err());
}

#[test]
fn sizes_may_be_expressions() {
    let chapters = [source::parse(A, "a").unwrap()];
    let limits = source::parse(LIMITS, "limits").unwrap();
    let names = Names::new(&chapters, &limits).unwrap();
    for (ty, size) in [
        ("[u8; (TAG_SIZE / 2) as usize]", 8),
        ("[[U16; 3]; 2]", 12),
        ("[Inner; u8::MAX as usize]", 6 * 255),
        ("[U64; size_of::<Outer>()]", 8 * 44),
        ("super::a::Inner", 6),
    ] {
        let parsed: Type = syn::parse_str(ty).unwrap();
        assert_eq!(names.type_size("a", &parsed).unwrap(), size, "{ty}");
    }
}
