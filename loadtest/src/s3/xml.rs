//! Reads an XML answer into a small tree. Answers are at most some hundred kilobytes, so a tree is affordable and
//! the operations read from it by name.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::error::Error;

/// One element with its text (trimmed only of what is between children) and children.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root element of a document.
    pub fn parse(document: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(document).map_err(|_| Error::protocol("the XML is not UTF-8"))?;
        let mut reader = Reader::from_str(text);
        // The bottom of the stack stands for the document, and collects the root.
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(|error| Error::protocol(format!("XML: {error}")))?;
            match event {
                Event::Eof => break,
                Event::Start(tag) => open.push(Self::named(tag.local_name().as_ref())),
                Event::Empty(tag) => adopt(&mut open, Self::named(tag.local_name().as_ref()))?,
                Event::End(_) => {
                    let element = open.pop().ok_or_else(|| Error::protocol("XML: closed too often"))?;
                    adopt(&mut open, element)?;
                }
                Event::Text(text) => append(&mut open, &text.xml10_content()),
                Event::CData(text) => append(&mut open, &text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let is_number =
                        reference.resolve_char_ref().map_err(|e| Error::protocol(e.to_string()))?;
                    let resolved = is_number.or_else(|| predefined_entity(&reference.xml10_content()));
                    let char = resolved.ok_or_else(|| Error::protocol("XML: unknown entity"))?;
                    append(&mut open, char.encode_utf8(&mut [0; 4]));
                }
                _ => {}
            }
        }
        let is_complete = open.len() == 1;
        let root = open.pop().and_then(|document| document.children.into_iter().next());
        root.filter(|_| is_complete).ok_or_else(|| Error::protocol("XML: no complete document"))
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// All children of this name.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name.
    pub fn child_text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }

    /// The text of a child that has to be there.
    pub fn required(&self, name: &str) -> Result<&str, Error> {
        self.child_text(name).ok_or_else(|| Error::protocol(format!("<{}> lacks <{name}>", self.name)))
    }
}

fn adopt(open: &mut [Element], element: Element) -> Result<(), Error> {
    let parent = open.last_mut().ok_or_else(|| Error::protocol("XML: closed too often"))?;
    parent.children.push(element);
    Ok(())
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn predefined_entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_text_and_entities_are_read() {
        let root = Element::parse(
            br#"<?xml version="1.0"?><L xmlns="urn:x"><K>a&amp;b&#x20;&lt;</K><K/><E>&quot;1&quot;</E></L>"#,
        )
        .unwrap();
        assert_eq!(root.name, "L");
        let keys: Vec<&str> = root.children("K").map(|key| key.text.as_str()).collect();
        assert_eq!(keys, ["a&b <", ""]);
        assert_eq!(root.required("E").unwrap(), "\"1\"");
        assert!(root.required("F").is_err());
    }

    #[test]
    fn a_document_cut_short_or_crossed_is_refused() {
        assert!(Element::parse(b"<a><b></b>").is_err());
        assert!(Element::parse(b"<a><b></a></b>").is_err());
        assert!(Element::parse(b"").is_err());
        assert!(Element::parse(b"<a>&unknown;</a>").is_err());
    }
}
