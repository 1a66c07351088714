//! The headers of a request, in one piece of memory: a head has a dozen of them, and each would be two allocations.

use std::fmt;

/// Header names and values, in wire order. Names are in lowercase.
#[derive(Clone, Default)]
pub struct Headers {
    /// Names and values, one behind the other.
    names: String,
    values: Vec<u8>,
    ends: Vec<End>,
}

/// Where a name and its value end; they begin where those before them do.
#[derive(Clone, Copy, Debug)]
struct End {
    name: u32,
    value: u32,
}

impl Headers {
    /// None yet, with room for so many and for their bytes.
    pub fn with_capacity(count: usize, len: usize) -> Self {
        Headers {
            names: String::with_capacity(len / 2),
            values: Vec::with_capacity(len),
            ends: Vec::with_capacity(count),
        }
    }

    /// Adds a header; its name becomes lowercase.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let begin = self.names.len();
        self.names.push_str(name);
        self.names[begin..].make_ascii_lowercase();
        self.values.extend_from_slice(value);
        let end = |len: usize| u32::try_from(len).expect("a head is shorter than 4 GiB");
        self.ends.push(End { name: end(self.names.len()), value: end(self.values.len()) });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { headers: self, next: 0, name_begin: 0, value_begin: 0 }
    }

    /// The values of that (lowercase) name.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let mut begin = End { name: 0, value: 0 };
        self.ends.iter().filter_map(move |end| {
            let from = std::mem::replace(&mut begin, *end);
            // Lengths differ mostly, and tell so without a look at the names.
            if (end.name - from.name) as usize != name.len() {
                return None;
            }
            let found = &self.names.as_bytes()[from.name as usize..end.name as usize];
            (found == name.as_bytes()).then(|| &self.values[from.value as usize..end.value as usize])
        })
    }
}

/// Walks over headers.
#[derive(Clone)]
pub struct Iter<'a> {
    headers: &'a Headers,
    next: usize,
    name_begin: usize,
    value_begin: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.headers.ends.get(self.next)?;
        let (name_end, value_end) = (end.name as usize, end.value as usize);
        let name = &self.headers.names[self.name_begin..name_end];
        let value = &self.headers.values[self.value_begin..value_end];
        self.next += 1;
        (self.name_begin, self.value_begin) = (name_end, value_end);
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Headers::default();
        headers.extend(pairs);
        headers
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Extend<(N, V)> for Headers {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(name, value)| self.push(name.as_ref(), value.as_ref()));
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        f.debug_map().entries(self.iter().map(|(name, value)| (name, text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_order_with_lowercase_names() {
        let headers: Headers =
            [("Host", &b"h"[..]), ("X-Empty", b""), ("host", b"again")].into_iter().collect();
        let found: Vec<(&str, &[u8])> = headers.iter().collect();
        assert_eq!(found, [("host", &b"h"[..]), ("x-empty", b""), ("host", b"again")]);
        assert_eq!(headers.values("host").collect::<Vec<_>>(), [&b"h"[..], b"again"]);
        assert_eq!(headers.len(), 3);
    }
}
