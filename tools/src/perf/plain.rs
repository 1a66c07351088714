//! A client for what is not measured: putting objects beforehand and reading metrics, over plain HTTP.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIME_MAX: Duration = Duration::from_secs(30);

/// Longer answers than this are none that we ask for.
const BODY_LEN_MAX: u64 = 64 << 20;

/// One connection.
pub(super) struct Connection(BufReader<TcpStream>);

/// An answer.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIME_MAX))?;
        stream.set_write_timeout(Some(TIME_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request, its body being stated in the head, and reads the answer.
    pub fn exchange(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        self.0.get_mut().write_all(head.as_bytes())?;
        self.0.get_mut().write_all(body)?;
        read_answer(&mut self.0)
    }
}

fn read_answer(from: &mut impl BufRead) -> io::Result<Answer> {
    let (mut status, mut body_len) = (None, None);
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        match status {
            None => status = text.split(' ').nth(1).and_then(|it| it.parse().ok()),
            Some(_) => {
                let length =
                    text.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                body_len = length.and_then(|(_, value)| value.trim().parse::<u64>().ok()).or(body_len);
            }
        }
    }
    let mut body = Vec::new();
    match body_len {
        Some(len) if len > BODY_LEN_MAX => return Err(io::Error::other(format!("a body of {len} bytes"))),
        Some(len) => from.by_ref().take(len).read_to_end(&mut body)?,
        None => from.by_ref().take(BODY_LEN_MAX).read_to_end(&mut body)?,
    };
    if body_len.is_some_and(|len| len != body.len() as u64) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Answer { status: status.ok_or(io::ErrorKind::InvalidData)?, body })
}

/// A page of metrics.
pub(super) fn metrics(admin: SocketAddr) -> io::Result<String> {
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let answer = Connection::open(admin)?.exchange(&head, b"")?;
    if answer.status != 200 {
        return Err(io::Error::other(format!("/metrics answers {}", answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The sum of a metric over all cores, among samples that have `label` (all when it is empty).
pub(super) fn total(page: &str, name: &str, label: &str) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(name)?;
        let is_it = (labels.is_empty() || labels.starts_with('{')) && labels.contains(label);
        is_it.then(|| value.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says_or_with_the_connection() {
        let mut two: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 507 Full\r\n\r\nrest";
        let first = read_answer(&mut two).unwrap();
        assert_eq!((first.status, first.body.as_slice()), (200, b"abc".as_slice()));
        let second = read_answer(&mut two).unwrap();
        assert_eq!((second.status, second.body.as_slice()), (507, b"rest".as_slice()));
        let mut short: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert!(read_answer(&mut short).is_err());
    }

    #[test]
    fn a_metric_is_summed_over_cores_and_not_taken_for_a_longer_name() {
        let page = "# HELP a_total It.\na_total{core=\"0\"} 2\na_total{core=\"1\"} 3\na_total_more 9\nb{op=\"Get\",c=\"0\"} 1\nb{op=\"Put\",c=\"0\"} 5\n";
        assert_eq!(total(page, "a_total", ""), 5.0);
        assert_eq!(total(page, "b", "op=\"Get\""), 1.0);
    }
}
