//! Reads request documents as a stream of elements, in bounded memory.
//!
//! The caller walks the tree: [`Reader::root`] enters the root, [`Reader::next_child`] enters the next child of the
//! element it is in (or leaves that element, when there is none), [`Reader::text`] and [`Reader::skip`] leave the
//! element that was entered last.
//!
//! What is refused, always with `MalformedXML`:
//! - documents over the length limit and elements nested over the depth limit;
//! - anything but UTF-8, whatever the XML declaration says;
//! - a DOCTYPE, and with it every entity but the five predefined ones and numeric references: there is nothing to expand;
//! - text where the schema has elements, elements where it has text, anything but white space around the root.
//!
//! Namespaces are tolerated rather than checked, as AWS does: only local names count. Unknown elements are the
//! caller's to skip.

use quick_xml::errors::IllFormedError;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::{Error as XmlError, Reader as Parser};

use crate::{Code, Error};

/// A document being read.
pub struct Reader<'a> {
    parser: Parser<&'a [u8]>,
    depth: usize,
    depth_max: usize,
    /// The element that `<name/>` opened and that still has to be closed.
    is_empty_element: bool,
    name: String,
}

impl<'a> Reader<'a> {
    /// Starts to read. `len_max` bounds the document, `depth_max` the nesting of its elements.
    pub fn new(document: &'a [u8], len_max: usize, depth_max: usize) -> Result<Self, Error> {
        if document.len() > len_max {
            return Err(malformed("The document is too long"));
        }
        let text = std::str::from_utf8(document).map_err(|_| malformed("The document is not UTF-8"))?;
        let mut parser = Parser::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        parser.config_mut().check_comments = true;
        Ok(Reader { parser, depth: 0, depth_max, is_empty_element: false, name: String::new() })
    }

    /// Enters the root, which has to have this name.
    pub fn root(&mut self, name: &str) -> Result<(), Error> {
        match self.child()? {
            Some(found) if found == name => Ok(()),
            _ => Err(malformed("The root element is not the one that this request takes")),
        }
    }

    /// Enters the next child of the element we are in and names it; without one, leaves the element.
    pub fn next_child(&mut self) -> Result<Option<&str>, Error> {
        self.child()
    }

    /// The text of the element entered last, which it leaves.
    pub fn text(&mut self) -> Result<String, Error> {
        let mut text = String::new();
        loop {
            match self.event()? {
                Some(Token::Text(piece)) => text.push_str(&piece),
                Some(Token::Char(c)) => text.push(c),
                Some(Token::End) => return Ok(text),
                Some(Token::Start) | None => {
                    return Err(malformed("An element holds elements instead of text"));
                }
            }
        }
    }

    /// The text of the element entered last without the white space around it, which it leaves.
    pub fn trimmed_text(&mut self) -> Result<String, Error> {
        Ok(self.text()?.trim_ascii_space().to_owned())
    }

    /// Leaves the element entered last, whatever it holds.
    pub fn skip(&mut self) -> Result<(), Error> {
        let outside = self.depth - 1;
        while self.depth > outside {
            if self.event()?.is_none() {
                return Err(malformed("The document ends inside an element"));
            }
        }
        Ok(())
    }

    /// Checks that nothing but white space, comments and processing instructions follows the root.
    pub fn finish(mut self) -> Result<(), Error> {
        match self.child()? {
            None => Ok(()),
            Some(_) => Err(malformed("The document has more than one root element")),
        }
    }

    /// [`Reader::next_child`]; at the end of the document it is `None`, too.
    fn child(&mut self) -> Result<Option<&str>, Error> {
        loop {
            match self.event()? {
                Some(Token::Start) => return Ok(Some(&self.name)),
                Some(Token::End) | None => return Ok(None),
                Some(Token::Text(text)) if text.trim_ascii_space().is_empty() => {}
                Some(Token::Text(_) | Token::Char(_)) => {
                    return Err(malformed("There is text where only elements may be"));
                }
            }
        }
    }

    /// The next event that matters; `None` at the end of the document, which is never inside an element.
    fn event(&mut self) -> Result<Option<Token>, Error> {
        if std::mem::take(&mut self.is_empty_element) {
            self.depth -= 1;
            return Ok(Some(Token::End));
        }
        loop {
            return match self.parser.read_event().map_err(not_well_formed)? {
                Event::Start(start) => self.start(&start).map(Some),
                Event::Empty(start) => {
                    self.is_empty_element = true;
                    self.start(&start).map(Some)
                }
                Event::End(_) => {
                    self.depth -= 1;
                    Ok(Some(Token::End))
                }
                Event::Text(text) => Ok(Some(Token::Text(allowed(&text.xml10_content())?))),
                Event::CData(_) if self.depth == 0 => {
                    Err(malformed("There is text outside of the root element"))
                }
                Event::CData(text) => Ok(Some(Token::Text(allowed(&text.xml10_content())?))),
                Event::GeneralRef(reference) => Ok(Some(Token::Char(resolve(&reference)?))),
                Event::Decl(declaration) => {
                    check_declaration(&declaration)?;
                    continue;
                }
                Event::Comment(_) | Event::PI(_) => continue,
                Event::DocType(_) => Err(malformed("A document type declaration is not allowed")),
                Event::Eof if self.depth == 0 => Ok(None),
                Event::Eof => Err(malformed("The document ends inside an element")),
            };
        }
    }

    /// Enters an element.
    fn start(&mut self, start: &BytesStart<'_>) -> Result<Token, Error> {
        self.depth += 1;
        if self.depth > self.depth_max {
            return Err(malformed("Elements are nested too deeply"));
        }
        for attribute in start.attributes().with_checks(false) {
            attribute.map_err(|_| malformed("An attribute is not well-formed"))?;
        }
        self.name.clear();
        self.name.push_str(start.local_name().as_ref());
        if self.name.is_empty() {
            return Err(malformed("An element has no name"));
        }
        Ok(Token::Start)
    }
}

/// What an event comes down to.
enum Token {
    /// An element was entered; its name is in the reader.
    Start,
    /// The innermost element was left.
    End,
    Text(String),
    Char(char),
}

/// White space as XML defines it.
trait TrimXml {
    fn trim_ascii_space(&self) -> &str;
}

impl TrimXml for str {
    fn trim_ascii_space(&self) -> &str {
        self.trim_matches([' ', '\t', '\r', '\n'])
    }
}

/// `MalformedXML`, saying what is wrong.
pub fn malformed(what: &'static str) -> Error {
    Error::with_message(Code::MalformedXML, format!("{}: {what}.", Code::MalformedXML.message()))
}

/// The character that a reference stands for.
fn resolve(reference: &BytesRef<'_>) -> Result<char, Error> {
    let unknown = || malformed("An entity is none of the five predefined ones");
    if let Some(c) =
        reference.resolve_char_ref().map_err(|_| malformed("A character reference is not valid"))?
    {
        return Ok(c);
    }
    match reference.as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(unknown()),
    }
}

/// The text, if XML 1.0 allows all its characters bare.
fn allowed(text: &str) -> Result<String, Error> {
    if text.bytes().any(|b| b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r')) {
        return Err(malformed("A control character is not allowed outside of a character reference"));
    }
    Ok(text.to_owned())
}

/// Refuses documents that claim to be something else than the UTF-8 that they were read as.
fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), Error> {
    let Some(encoding) = declaration.encoding() else { return Ok(()) };
    let encoding = encoding.map_err(|_| malformed("The XML declaration is not well-formed"))?;
    if ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| encoding.eq_ignore_ascii_case(known)) {
        Ok(())
    } else {
        Err(malformed("The document's encoding has to be UTF-8"))
    }
}

/// What the parser found, as our error.
fn not_well_formed(error: XmlError) -> Error {
    match error {
        XmlError::IllFormed(IllFormedError::MismatchedEndTag { .. } | IllFormedError::UnmatchedEndTag(_)) => {
            malformed("Elements are not closed in order")
        }
        _ => malformed("The document is not well-formed"),
    }
}

/// Keeps a value that a document may hold once.
pub fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Error> {
    if slot.replace(value).is_some() {
        return Err(malformed("An element occurs twice that may occur once"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
