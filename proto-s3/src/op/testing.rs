//! Heads and documents for the tests of the operations.

use crate::http::{Method, RequestHead, Response, ResponseBody};
use crate::operation::Operation;
use crate::route::{RouteConfig, route};
use crate::{Code, Error};

/// The head of a request; `target` is path and query.
pub(crate) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = [Method::Get, Method::Head, Method::Put, Method::Post, Method::Delete, Method::Options]
        .into_iter()
        .find(|known| known.as_str() == method)
        .unwrap();
    let all = [("host", "localhost:9000")].iter().chain(headers).copied().collect();
    RequestHead { method, raw_path: path.into(), raw_query: query.into(), minor_version: 1, headers: all }
}

/// The operation of a request.
pub(crate) fn routed(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Operation, Error> {
    route(&head(method, target, headers), &RouteConfig::default())
}

/// The code with which a request is refused.
pub(crate) fn refused(method: &str, target: &str, headers: &[(&str, &str)]) -> Code {
    match routed(method, target, headers) {
        Ok(operation) => panic!("{method} {target} is accepted as {operation:?}"),
        Err(error) => error.code,
    }
}

/// The document of a response, without its XML declaration.
pub(crate) fn document(response: &Response) -> String {
    let ResponseBody::Bytes(bytes) = &response.body else { panic!("{:?} is no document", response.body) };
    let text = std::str::from_utf8(bytes).unwrap();
    text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap().to_owned()
}

/// A header of a response.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let (_, value) = response.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
    Some(std::str::from_utf8(value).unwrap())
}
