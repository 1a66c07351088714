//! Writes response documents, element by element, in the order in which they are asked for.
//!
//! - Text is escaped so that every parser reads back what was written: the five predefined entities, and carriage
//!   returns as `&#13;`, since a bare one would be read as a line feed.
//! - Characters that XML 1.0 does not allow are written as numeric references (`&#x1;`), as AWS does. Strict parsers
//!   refuse them; clients with such keys ask for `encoding-type=url`.

use std::fmt::{Display, Write as _};

use super::NAMESPACE;

/// A document under construction.
#[derive(Debug)]
pub struct Writer {
    out: String,
    open: Vec<&'static str>,
}

impl Writer {
    /// A document whose root carries S3's namespace.
    pub fn new(root: &'static str) -> Self {
        Writer::with_attributes(root, &[("xmlns", NAMESPACE)])
    }

    /// A document whose root carries these attributes; their values need no escaping.
    pub fn with_attributes(root: &'static str, attributes: &[(&str, &str)]) -> Self {
        let mut writer = Writer { out: String::with_capacity(512), open: Vec::with_capacity(4) };
        writer.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        writer.start(root, attributes);
        writer
    }

    /// Opens an element.
    pub fn open(&mut self, name: &'static str) -> &mut Self {
        self.start(name, &[])
    }

    /// Opens an element with attributes; their values need no escaping.
    pub fn start(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> &mut Self {
        self.out.push('<');
        self.out.push_str(name);
        for (attribute, value) in attributes {
            let _ = write!(self.out, " {attribute}=\"{value}\"");
        }
        self.out.push('>');
        self.open.push(name);
        self
    }

    /// Closes the innermost open element.
    pub fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            self.end(name);
        }
        self
    }

    /// Text in the innermost open element.
    pub fn content(&mut self, text: &str) -> &mut Self {
        escape_into(&mut self.out, text);
        self
    }

    /// An element that holds text.
    pub fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.open(name);
        escape_into(&mut self.out, text);
        self.close()
    }

    /// An element that holds text, when there is any text to hold.
    pub fn optional_text(&mut self, name: &'static str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// An element that holds a number, a boolean or the like: something that displays without special characters.
    pub fn value(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.open(name);
        let _ = write!(self.out, "{value}");
        self.close()
    }

    /// An element that holds text that is escaped already, such as a quoted entity tag.
    pub fn quoted(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.open(name);
        let _ = write!(self.out, "&quot;{value}&quot;");
        self.close()
    }

    /// The finished document, with everything still open closed.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.out.into_bytes()
    }

    fn end(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }
}

/// Appends text with everything escaped that a parser would not read back as it is.
pub fn escape_into(out: &mut String, text: &str) {
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        let entity = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&apos;",
            '\r' => "&#13;",
            c if is_forbidden(c) => "",
            _ => continue,
        };
        out.push_str(&text[plain_from..at]);
        plain_from = at + c.len_utf8();
        if entity.is_empty() {
            let _ = write!(out, "&#x{:x};", u32::from(c));
        } else {
            out.push_str(entity);
        }
    }
    out.push_str(&text[plain_from..]);
}

/// Whether XML 1.0 has no place for the character (surrogates are no `char`).
fn is_forbidden(c: char) -> bool {
    (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        escape_into(&mut out, text);
        out
    }

    #[test]
    fn markup_characters_become_entities() {
        assert_eq!(escaped("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&apos;");
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(escaped("größe/✓ a\tb\nc"), "größe/✓ a\tb\nc");
    }

    #[test]
    fn characters_outside_xml_become_numeric_references() {
        assert_eq!(escaped("\u{1}x\u{1f}\u{ffff}\0\r"), "&#x1;x&#x1f;&#xffff;&#x0;&#13;");
    }

    #[test]
    fn a_document_nests_and_closes_itself() {
        let mut writer = Writer::new("Root");
        writer.open("A").text("B", "<").value("C", 7).close().quoted("D", "ab");
        writer.open("E").optional_text("F", None).optional_text("G", Some(""));
        assert_eq!(
            String::from_utf8(writer.finish()).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Root xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <A><B>&lt;</B><C>7</C></A><D>&quot;ab&quot;</D><E><G></G></E></Root>"
        );
    }
}
