//! Malformed, hostile and merely unusual documents.

use proptest::prelude::*;

use super::*;
use crate::xml::Writer;

const LEN_MAX: usize = 10_000;
const DEPTH_MAX: usize = 6;

/// Reads `<R>` with children `<T>`, whose texts are returned; other children are skipped.
fn texts(document: impl AsRef<[u8]>) -> Result<Vec<String>, Error> {
    let mut reader = Reader::new(document.as_ref(), LEN_MAX, DEPTH_MAX)?;
    reader.root("R")?;
    let mut texts = Vec::new();
    while let Some(name) = reader.next_child()? {
        match name {
            "T" => texts.push(reader.text()?),
            _ => reader.skip()?,
        }
    }
    reader.finish()?;
    Ok(texts)
}

fn assert_malformed(document: impl AsRef<[u8]>) {
    let document = document.as_ref();
    match texts(document) {
        Ok(texts) => panic!("{:?} was read as {texts:?}", String::from_utf8_lossy(document)),
        Err(error) => assert_eq!(error.code, Code::MalformedXML, "{:?}", String::from_utf8_lossy(document)),
    }
}

#[test]
fn text_is_read_with_entities_references_and_cdata() {
    let text = "<R><T>a&amp;b&lt;&gt;&quot;&apos;&#65;&#x42;<![CDATA[<c>&amp;]]>d</T></R>";
    assert_eq!(texts(text).unwrap(), ["a&b<>\"'AB<c>&amp;d"]);
}

#[test]
fn white_space_in_text_stays_and_line_ends_become_line_feeds() {
    assert_eq!(texts("<R>\n  <T> a\r\nb\t</T>\n</R>\n").unwrap(), [" a\nb\t"]);
    assert_eq!(texts("<R><T>a&#13;b</T></R>").unwrap(), ["a\rb"]);
}

#[test]
fn empty_elements_have_empty_text() {
    assert_eq!(texts("<R><T/><T></T><T a='b' /></R>").unwrap(), ["", "", ""]);
    assert_eq!(texts("<R/>").unwrap(), Vec::<String>::new());
}

#[test]
fn namespaces_prefixes_declarations_comments_and_instructions_do_not_matter() {
    for document in [
        "<R xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><T>a</T></R>",
        "<s3:R xmlns:s3=\"http://s3.amazonaws.com/doc/2006-03-01/\"><s3:T>a</s3:T></s3:R>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R><T>a</T></R>",
        "<?xml version='1.0' encoding='utf-8' standalone='yes'?><R><T>a</T></R>",
        "\u{feff}<R><T>a</T></R>",
        "<!-- x --><R><!-- y --><T>a<!-- z --></T><?php echo ?></R><!-- w -->\n",
    ] {
        assert_eq!(texts(document).unwrap(), ["a"], "{document}");
    }
}

#[test]
fn unknown_elements_are_skipped_with_all_that_is_in_them() {
    let document = "<R><X>text<Y><T>no</T>&lt;</Y><Z/></X><T>yes</T><X/></R>";
    assert_eq!(texts(document).unwrap(), ["yes"]);
}

#[test]
fn there_is_one_root_and_it_has_the_right_name() {
    for document in
        ["", " ", "<!-- R -->", "<?xml version='1.0'?>", "<S/>", "<r/>", "<R/><R/>", "<R/>text", "text<R/>"]
    {
        assert_malformed(document);
    }
    assert_malformed("<![CDATA[x]]><R/>");
    assert_malformed("<R/>&amp;");
    assert_malformed("</R>");
}

#[test]
fn what_is_not_well_formed_is_refused() {
    for document in [
        "<R>",
        "<R><T>a</R></T>",
        "<R><T>a</T>",
        "<R><T>a</T></R",
        "<R></S>",
        "<R><T>a</T></R></R>",
        "<R><T>&amp</T></R>",
        "<R><T>&</T></R>",
        "<R a=b/>",
        "<R a/>",
        "<R><></></R>",
        "<R><!-- -- --></R>",
        "<R><T><![CDATA[a</T></R>",
        "<R><T>\u{1}</T></R>",
        "<R><T>\0</T></R>",
    ] {
        assert_malformed(document);
    }
}

#[test]
fn text_and_elements_do_not_mix() {
    assert_malformed("<R>text<T>a</T></R>");
    assert_malformed("<R><T>a</T>&amp;</R>");
    assert_malformed("<R><T>a<b/></T></R>");
}

#[test]
fn there_are_no_document_types_and_no_entities_of_their_own() {
    assert_malformed("<!DOCTYPE R><R/>");
    assert_malformed("<!DOCTYPE R SYSTEM \"file:///etc/passwd\"><R><T>a</T></R>");
    assert_malformed("<!DOCTYPE R [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><R><T>&x;</T></R>");
    assert_malformed("<R><T>&x;</T></R>");
    assert_malformed("<R><T>&nbsp;</T></R>");
    let laughs = "<!DOCTYPE R [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]><R><T>&c;</T></R>";
    assert_malformed(laughs);
}

#[test]
fn references_to_what_is_no_character_are_refused() {
    for reference in ["&#0;", "&#xD800;", "&#x110000;", "&#99999999999;", "&#x;", "&#;", "&#-1;", "&#+65;"] {
        assert_malformed(format!("<R><T>{reference}</T></R>"));
    }
}

#[test]
fn control_characters_may_come_as_references() {
    assert_eq!(texts("<R><T>&#1;&#x1f;</T></R>").unwrap(), ["\u{1}\u{1f}"]);
}

#[test]
fn what_is_not_utf8_is_refused_whatever_it_claims() {
    assert_malformed(b"<R><T>\xff</T></R>");
    assert_malformed(b"<R><T>\xc3</T></R>");
    assert_malformed(b"\xff\xfe<\0R\0/\0>\0");
    assert_malformed("<?xml version=\"1.0\" encoding=\"UTF-16\"?><R/>");
    assert_malformed("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><R/>");
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("<R>{}{}</R>", "<X>".repeat(depth - 1), "</X>".repeat(depth - 1));
    assert!(texts(nested(DEPTH_MAX)).is_ok());
    assert_malformed(nested(DEPTH_MAX + 1));
    // Where elements never end, the limit comes before memory runs out.
    assert_malformed(format!("<R>{}", "<X>".repeat(3000)));
}

#[test]
fn length_is_limited() {
    let padded = |len: usize| format!("<R>{}</R>", " ".repeat(len - 7));
    assert!(texts(padded(LEN_MAX)).is_ok());
    assert_malformed(padded(LEN_MAX + 1));
}

#[test]
fn a_value_that_comes_twice_is_malformed() {
    let mut slot = None;
    assert!(set_once(&mut slot, 1).is_ok());
    assert_eq!(set_once(&mut slot, 2).unwrap_err().code, Code::MalformedXML);
}

proptest! {
    #[test]
    fn what_the_writer_writes_the_reader_reads(values in prop::collection::vec(any_text(), 0..8)) {
        let mut writer = Writer::new("R");
        for value in &values {
            writer.text("T", value);
        }
        prop_assert_eq!(texts(writer.finish()).unwrap(), values);
    }

    #[test]
    fn no_bytes_panic(document in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = texts(document);
    }

    #[test]
    fn no_markup_panics(document in "(<R>|</R>|<T>|</T>|<T/>|<|>|&|;|&#|&#x|x|0|<!|--|<!--|-->|\\[|\\]|CDATA|<\\?|\\?>|'|\"|=| ){0,40}") {
        let _ = texts(format!("<R>{document}</R>"));
        let _ = texts(document);
    }
}

/// Text with many markup and control characters. NUL is left out: no reference can stand for it.
fn any_text() -> impl Strategy<Value = String> {
    let awkward = prop::sample::select(vec![
        '&', '<', '>', '"', '\'', '\r', '\n', '\t', ' ', '\u{1}', '\u{fffe}', ']', ';',
    ]);
    let any = prop_oneof![awkward, any::<char>().prop_filter("NUL has no reference", |c| *c != '\0')];
    prop::collection::vec(any, 0..20).prop_map(String::from_iter)
}
