//! One bounded line, collected from input that may end anywhere.

/// Collects bytes up to CR LF.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    len_max: usize,
}

/// The line went past its limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl LineBuffer {
    /// Empty; lines may have `len_max` bytes, the CR LF included.
    pub fn new(len_max: usize) -> Self {
        LineBuffer { bytes: Vec::new(), len_max }
    }

    /// Takes bytes from `input` up to the end of the line; returns how many. The line is there when
    /// [`LineBuffer::line`] says so; then [`LineBuffer::clear`] begins the next.
    pub fn fill(&mut self, input: &[u8]) -> Result<usize, TooLong> {
        for (index, byte) in input.iter().enumerate() {
            if self.bytes.len() == self.len_max {
                return Err(TooLong);
            }
            self.bytes.push(*byte);
            if self.line().is_some() {
                return Ok(index + 1);
            }
        }
        Ok(input.len())
    }

    /// The collected line without its end, when it is complete.
    pub fn line(&self) -> Option<&[u8]> {
        self.bytes.strip_suffix(b"\r\n")
    }

    /// Whether nothing is collected.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins the next line.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_cr_lf_wherever_the_input_is_cut() {
        let text = b"ab\nc\rd\r\nrest";
        for cut in 0..8 {
            let mut line = LineBuffer::new(16);
            assert_eq!(line.fill(&text[..cut]), Ok(cut));
            assert_eq!(line.line(), None);
            assert_eq!(line.fill(&text[cut..]), Ok(8 - cut));
            assert_eq!(line.line(), Some(&b"ab\nc\rd"[..]));
        }
    }

    #[test]
    fn a_line_past_its_limit_is_refused() {
        let mut line = LineBuffer::new(4);
        assert_eq!(line.fill(b"ab\r\n"), Ok(4));
        line.clear();
        assert_eq!(line.fill(b"abc"), Ok(3));
        assert_eq!(line.fill(b"\r\n"), Err(TooLong));
    }
}
