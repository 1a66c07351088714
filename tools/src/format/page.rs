//! The page itself: Markdown for somebody with a hex editor.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use syn::Type;

use super::layout::{Names, Value, path_name};
use super::source::{Chapter, Codes, Constant, Struct};

const HEAD: &str = "# The format on disk

<!-- Written by `cargo xtask format` from engine/src/format/. Do not edit: change the sources and run it again. -->

Offsets and sizes are in bytes and count from the beginning of the struct; the first column is hexadecimal, as a hex editor
shows it. `U16`, `U32`, `U64` are unsigned and little-endian: the least significant byte comes first. Structs have no gaps: a field begins
where the one before it ends. Reserved fields are written as zeroes. The dumps are the beginnings of the golden images in
`engine/tests/golden/`, which the tests hold to the byte.

";

/// Bytes of an image that are shown.
const DUMP_LEN: usize = 128;

/// The whole page.
pub fn render(chapters: &[Chapter], names: &Names<'_>, golden: &Path) -> io::Result<String> {
    let mut page = HEAD.to_owned();
    let mut images = image_names(golden)?;
    let layouts: Vec<String> =
        chapters.iter().flat_map(|chapter| &chapter.structs).map(|layout| snake(&layout.name)).collect();
    // An image named for a longer-named struct is not one of a shorter-named struct.
    images.sort_by_key(|name| (layouts.contains(name), name.clone()));
    for chapter in chapters {
        if chapter.name == "mod" {
            text(&mut page, &chapter.docs);
            constants(&mut page, chapter, names);
            limits(&mut page, chapters, names);
        } else {
            let _ = writeln!(page, "## {}\n\n`engine/src/format/{}`\n", title(&chapter.name), chapter.file);
            text(&mut page, &chapter.docs);
            constants(&mut page, chapter, names);
            for codes in &chapter.codes {
                code_table(&mut page, codes);
            }
            for layout in &chapter.structs {
                struct_table(&mut page, chapter, layout, names)?;
                dump(&mut page, chapter, layout, names, golden, &images, &layouts)?;
            }
        }
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    Ok(page)
}

fn title(module: &str) -> String {
    let words = module.replace("::", ": ").replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

fn text(page: &mut String, docs: &[String]) {
    let mut is_code = false;
    for line in docs {
        is_code ^= line.starts_with("```");
        let line = if is_code { line.clone() } else { plain(line) };
        // Headings of the sources stand under the chapter's.
        let prefix = if !is_code && line.starts_with('#') { "##" } else { "" };
        let _ = writeln!(page, "{prefix}{}", line.trim_end());
    }
    if !docs.is_empty() {
        page.push('\n');
    }
}

/// Without links that only rustdoc follows: of "[`X`](path)" and "[`X`]" the name stays.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(start) = rest.find("[`") {
        let Some(len) = rest[start..].find("`]") else { break };
        out.push_str(&rest[..start]);
        out.push_str(&rest[start + 1..start + len + 1]);
        rest = &rest[start + len + 2..];
        if let Some(end) = rest.strip_prefix('(').and_then(|link| link.find(')')) {
            rest = &rest[end + 2..];
        }
    }
    out + rest
}

/// Documentation as one cell of a table.
fn cell(docs: &[String]) -> String {
    let joined = docs.iter().map(|line| plain(line)).collect::<Vec<_>>().join(" ");
    joined.trim().replace('|', "\\|")
}

fn constants(page: &mut String, chapter: &Chapter, names: &Names<'_>) {
    let public: Vec<&Constant> = chapter.constants.iter().filter(|constant| constant.is_public).collect();
    constant_table(page, &chapter.name, &public, names);
}

fn constant_table(page: &mut String, module: &str, constants: &[&Constant], names: &Names<'_>) {
    if constants.is_empty() {
        return;
    }
    page.push_str("| constant | value | what |\n|---|---|---|\n");
    for constant in constants {
        // Not every constant is a number; what sizes are made of must be.
        let value = names.value(module, &constant.value);
        let value = value.map_or_else(|_| "see the source".to_owned(), |value| shown(&value));
        let _ = writeln!(page, "| `{}` | {value} | {} |", constant.name, cell(&constant.docs));
    }
    page.push('\n');
}

/// Limits that the sources of the format use.
fn limits(page: &mut String, chapters: &[Chapter], names: &Names<'_>) {
    let imports: Vec<&(String, String)> = chapters.iter().flat_map(|chapter| &chapter.imports).collect();
    let used = |constant: &&Constant| {
        imports.iter().any(|(module, name)| module == "limits" && *name == constant.name)
    };
    let used: Vec<&Constant> = names.limits.constants.iter().filter(used).collect();
    if !used.is_empty() {
        page.push_str("Limits that are part of the format (`engine/src/limits.rs`):\n\n");
    }
    constant_table(page, "limits", &used, names);
}

fn shown(value: &Value) -> String {
    let number =
        |number: &u64| if *number < 10 { format!("{number}") } else { format!("{number} (0x{number:x})") };
    match value {
        Value::Number(value) => number(value),
        Value::Numbers(values) => values.iter().map(number).collect::<Vec<_>>().join(", "),
        Value::Bytes(bytes) => {
            let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("`{}` ({})", hex.join(" "), bytes.escape_ascii())
        }
    }
}

fn code_table(page: &mut String, codes: &Codes) {
    let _ = writeln!(page, "### {}\n\n{}\n", codes.name, cell(&codes.docs));
    page.push_str("| code | name | what |\n|---|---|---|\n");
    for (code, name, docs) in &codes.variants {
        let _ = writeln!(page, "| {code} | `{name}` | {} |", cell(docs));
    }
    page.push('\n');
}

fn struct_table(page: &mut String, chapter: &Chapter, layout: &Struct, names: &Names<'_>) -> io::Result<()> {
    let size = names.size_of(&chapter.name, &layout.name)?;
    let heading = heading(&chapter.name, &layout.name, names);
    let _ = writeln!(page, "### {heading}\n\n{} {size} bytes (0x{size:x}).\n", cell(&layout.docs));
    page.push_str("| offset | | size | field | type | what |\n|---|---|---|---|---|---|\n");
    let mut offset = 0;
    for field in &layout.fields {
        let size = names.type_size(&chapter.name, &field.ty)?;
        let ty = type_text(&chapter.name, &field.ty, names)?;
        let what = cell(&field.docs);
        let _ = writeln!(page, "| `{offset:03x}` | {offset} | {size} | `{}` | {ty} | {what} |", field.name);
        offset += size;
    }
    page.push('\n');
    Ok(())
}

/// A type, with lengths as numbers and structs as links.
fn type_text(module: &str, ty: &Type, names: &Names<'_>) -> io::Result<String> {
    if let Type::Array(array) = ty {
        let len = names.number(module, &array.len)?;
        let element = type_text(module, &array.elem, names)?;
        return Ok(match element.strip_prefix('`').and_then(|text| text.strip_suffix('`')) {
            Some(plain) => format!("`[{plain}; {len}]`"),
            None => format!("{len} times {element}"),
        });
    }
    let name = path_name(ty).unwrap_or_default();
    Ok(match names.layout(module, &name) {
        Some((declared_in, _)) => {
            let heading = heading(declared_in, &name, names);
            format!("[{heading}](#{})", anchor(&heading))
        }
        None => format!("`{name}`"),
    })
}

/// A struct's name, with its module where that is needed to tell it from another.
fn heading(module: &str, name: &str, names: &Names<'_>) -> String {
    if names.is_ambiguous(name) { format!("{name} of {}", title(module)) } else { name.to_owned() }
}

/// The anchor that Markdown renderers give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '_' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The beginning of the golden image that is named for the struct, when there is one.
fn dump(
    page: &mut String,
    chapter: &Chapter,
    layout: &Struct,
    names: &Names<'_>,
    golden: &Path,
    images: &[String],
    layouts: &[String],
) -> io::Result<()> {
    let own = snake(&layout.name);
    let longer = format!("{own}_");
    let is_named_for = |name: &&String| name.starts_with(&longer) && !layouts.contains(name);
    let Some(name) = images.iter().find(|name| **name == own).or_else(|| images.iter().find(is_named_for))
    else {
        return Ok(());
    };
    let bytes = fs::read(golden.join(format!("{name}.bin")))?;
    // An image that begins otherwise is one of something around this struct.
    let magic = chapter.constants.iter().find(|constant| constant.name == "MAGIC");
    if let (Some(magic), Some("magic")) = (magic, layout.fields.first().map(|field| field.name.as_str()))
        && names.value(&chapter.name, &magic.value)? != Value::Bytes(bytes[..4.min(bytes.len())].to_vec())
        && names.value(&chapter.name, &magic.value)? != Value::Bytes(bytes[..8.min(bytes.len())].to_vec())
    {
        return Ok(());
    }
    let len = bytes.len().min(DUMP_LEN).min(names.size_of(&chapter.name, &layout.name)? as usize);
    let _ = writeln!(page, "[`{name}.bin`](../tests/golden/{name}.bin) begins:\n\n```text");
    for (row, line) in bytes[..len].chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String =
            line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(page, "{:03x}  {:<47}  {ascii}", row * 16, hex.join(" "));
    }
    page.push_str("```\n\n");
    Ok(())
}

fn image_names(golden: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(golden)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// `SegmentHeaderLayout` as `segment_header`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.strip_suffix("Layout").unwrap_or(name).chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
