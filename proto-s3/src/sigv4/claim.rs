//! What a signed request claims about itself, in its Authorization header or in its query.
//!
//! A claim is parsed and complete, and nothing about it is verified yet.

use std::borrow::Cow;

use crate::encoding;
use crate::error::{Code, Error};
use crate::http::RequestHead;
use crate::sigv4::ALGORITHM;
use crate::time::{self, UnixSeconds};
use crate::uri::{self, Plus};

/// Where a request carries its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the Authorization header.
    Header,
    /// In the query: a presigned URL.
    Query,
}

impl Form {
    /// The error for a claim that does not parse, in AWS's words for that form.
    pub(crate) fn malformed(self, parameter: &str, reason: &str) -> Error {
        match self {
            Form::Header => Error::with_message(
                Code::AuthorizationHeaderMalformed,
                format!("The authorization header is malformed; {reason}"),
            ),
            Form::Query => Error::with_message(
                Code::AuthorizationQueryParametersError,
                format!("Error parsing the X-Amz-{parameter} parameter; {reason}"),
            ),
        }
    }
}

/// The parts of a claim; borrowed from the head where nothing had to be decoded.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    pub form: Form,
    /// The value of `Credential`; see [`crate::sigv4::scope::Scope`].
    pub credential: Cow<'a, str>,
    /// Names of the signed headers, joined with `;`.
    pub signed_headers: Cow<'a, str>,
    pub signature: [u8; 32],
    pub signed_at: UnixSeconds,
    /// Seconds of validity after `signed_at`; presigned only.
    pub lifetime_seconds: Option<i64>,
    pub session_token: Option<Cow<'a, str>>,
    /// The value of `x-amz-content-sha256`, when there is one.
    pub content_sha256: Option<Cow<'a, str>>,
}

impl<'a> Claim<'a> {
    /// Finds the one claim of a request; `None` when it is anonymous.
    pub fn find(head: &'a RequestHead, lifetime_seconds_max: i64) -> Result<Option<Self>, Error> {
        let query = QueryParameters::find(&head.raw_query)?;
        let mut authorizations = head.header_all("authorization");
        match (authorizations.next(), query) {
            (None, None) => Ok(None),
            (Some(value), None) if authorizations.next().is_none() => {
                Self::from_header(head, value).map(Some)
            }
            (None, Some(query)) => Self::from_query(head, query, lifetime_seconds_max).map(Some),
            (Some(value), _) => Err(Error::invalid_argument(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
                "Authorization",
                scheme(value),
            )),
        }
    }

    fn from_header(head: &'a RequestHead, value: &'a [u8]) -> Result<Self, Error> {
        let components = header_components(value)?;
        let [credential, signed_headers, signature] = HeaderComponents::take(components)?;
        Ok(Claim {
            form: Form::Header,
            credential: Cow::Borrowed(credential),
            signed_headers: Cow::Borrowed(signed_headers),
            signature: parse_signature(signature, Form::Header)?,
            signed_at: header_time(head)?,
            lifetime_seconds: None,
            session_token: text_header(head, "x-amz-security-token", Code::InvalidToken)?,
            content_sha256: text_header(head, "x-amz-content-sha256", Code::InvalidArgument)?,
        })
    }

    fn from_query(
        head: &'a RequestHead,
        query: QueryParameters<'a>,
        lifetime_seconds_max: i64,
    ) -> Result<Self, Error> {
        let [algorithm, credential, signature, date, signed_headers, expires] = query.required()?;
        if algorithm != ALGORITHM {
            let reason = format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"");
            return Err(Error::with_message(Code::AuthorizationQueryParametersError, reason));
        }
        let signed_at = time::parse_amz_date(&date).ok_or_else(|| {
            Form::Query.malformed("Date", "it must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let content_sha256 = match query.content_sha256 {
            Some(value) => Some(value),
            None => text_header(head, "x-amz-content-sha256", Code::InvalidArgument)?,
        };
        Ok(Claim {
            form: Form::Query,
            credential,
            signed_headers,
            signature: parse_signature(&signature, Form::Query)?,
            signed_at,
            lifetime_seconds: Some(parse_expires(&expires, lifetime_seconds_max)?),
            session_token: query.security_token,
            content_sha256,
        })
    }
}

/// The `Name=value` pairs behind the algorithm of an Authorization header.
fn header_components(value: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(value)
        .map_err(|_| Form::Header.malformed("", "it has characters that are not UTF-8."))?;
    let (algorithm, components) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    if algorithm == ALGORITHM {
        return Ok(components);
    }
    Err(match algorithm {
        "AWS" => Error::with_message(Code::InvalidRequest, "SigV2 is not enabled; use AWS4-HMAC-SHA256"),
        "AWS4-ECDSA-P256-SHA256" => Error::with_message(
            Code::NotImplemented,
            "SigV4A (AWS4-ECDSA-P256-SHA256) is not implemented; use AWS4-HMAC-SHA256",
        ),
        _ => Error::invalid_argument("Unsupported Authorization Type", "Authorization", scheme(value)),
    })
}

/// The scheme of an Authorization header: what may be repeated in an error.
fn scheme(value: &[u8]) -> String {
    let scheme = value.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    String::from_utf8_lossy(&scheme[..scheme.len().min(32)]).into_owned()
}

/// Credential, SignedHeaders, Signature.
struct HeaderComponents;

impl HeaderComponents {
    const NAMES: [&'static str; 3] = ["Credential", "SignedHeaders", "Signature"];

    /// Each component exactly once, in any order, separated by commas.
    fn take(components: &str) -> Result<[&str; 3], Error> {
        let malformed = |reason: String| Form::Header.malformed("", &reason);
        let mut found = [None; 3];
        for component in components.split(',').map(str::trim) {
            let index = component
                .split_once('=')
                .and_then(|(name, value)| {
                    let index = Self::NAMES.iter().position(|known| *known == name)?;
                    found[index].replace(value).is_none().then_some(index)
                })
                .filter(|index| found[*index].is_some_and(|value| !value.is_empty()));
            if index.is_none() {
                let shown: String = component.chars().take(64).collect();
                return Err(malformed(format!("the authorization component \"{shown}\" is malformed.")));
            }
        }
        let missing = found.iter().zip(Self::NAMES).find(|(value, _)| value.is_none());
        match missing {
            Some((_, name)) => Err(malformed(format!("the {name} component is missing."))),
            None => Ok(found.map(Option::unwrap_or_default)),
        }
    }
}

/// The time of a header-signed request: `x-amz-date`, or else `Date`, in SigV4's form or HTTP's.
fn header_time(head: &RequestHead) -> Result<UnixSeconds, Error> {
    let value = head.header("x-amz-date").or_else(|| match head.header_bytes("x-amz-date") {
        Some(_) => None,
        None => head.header("date"),
    });
    value
        .and_then(|text| time::parse_amz_date(text).or_else(|| time::parse_http_date(text)))
        .filter(|seconds| *seconds >= 0)
        .ok_or_else(|| {
            Error::with_message(
                Code::AccessDenied,
                "AWS authentication requires a valid Date or x-amz-date header",
            )
        })
}

/// The one header of that name as text; the code when there are several or it is not text.
fn text_header<'a>(
    head: &'a RequestHead,
    name: &'static str,
    code: Code,
) -> Result<Option<Cow<'a, str>>, Error> {
    let mut values = head.header_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    match std::str::from_utf8(value) {
        Ok(text) if values.next().is_none() => Ok(Some(Cow::Borrowed(text))),
        _ => Err(Error::with_message(code, format!("The {name} header must be there once, as text."))),
    }
}

fn parse_signature(digits: &str, form: Form) -> Result<[u8; 32], Error> {
    encoding::hex_array(digits.as_bytes())
        .ok_or_else(|| form.malformed("Signature", "the Signature must be 64 hexadecimal digits."))
}

fn parse_expires(digits: &str, lifetime_seconds_max: i64) -> Result<i64, Error> {
    let error = |message: String| Err(Error::with_message(Code::AuthorizationQueryParametersError, message));
    match digits.parse::<i64>() {
        Err(_) => error("X-Amz-Expires should be a number".into()),
        Ok(seconds) if seconds < 0 => error("X-Amz-Expires must be non-negative".into()),
        Ok(seconds) if seconds > lifetime_seconds_max => error(format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
             {lifetime_seconds_max} seconds"
        )),
        Ok(seconds) => Ok(seconds),
    }
}

/// The signature parameters of a presigned URL, decoded.
#[derive(Default)]
struct QueryParameters<'a> {
    required: [Option<Cow<'a, str>>; 6],
    security_token: Option<Cow<'a, str>>,
    content_sha256: Option<Cow<'a, str>>,
}

/// The parameters that only a presigned URL has, in the order of [`QueryParameters::required`].
const REQUIRED: [&str; 6] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
    "X-Amz-SignedHeaders",
    "X-Amz-Expires",
];

impl<'a> QueryParameters<'a> {
    /// The parameters, when any that makes a presigned URL is there.
    fn find(raw_query: &'a str) -> Result<Option<Self>, Error> {
        let mut parameters = QueryParameters::default();
        let mut is_presigned = false;
        for (raw_name, raw_value) in uri::query_pairs(raw_query) {
            let name = uri::decode(raw_name, Plus::Space)?;
            if name.as_ref() == b"AWSAccessKeyId" {
                return Err(Error::with_message(
                    Code::InvalidRequest,
                    "SigV2 is not enabled; use AWS4-HMAC-SHA256",
                ));
            }
            let required = REQUIRED.iter().position(|known| known.as_bytes() == name.as_ref());
            let slot = match (required, name.as_ref()) {
                (Some(index), _) => &mut parameters.required[index],
                (None, b"X-Amz-Security-Token") => &mut parameters.security_token,
                (None, b"X-Amz-Content-Sha256") => &mut parameters.content_sha256,
                (None, _) => continue,
            };
            is_presigned |= required.is_some_and(|index| index < 3);
            if slot.replace(decode_text(raw_value)?).is_some() {
                return Err(Error::with_message(
                    Code::AuthorizationQueryParametersError,
                    "A parameter of the signature is there more than once.",
                ));
            }
        }
        Ok(is_presigned.then_some(parameters))
    }

    /// All that a presigned URL must have.
    fn required(&self) -> Result<[Cow<'a, str>; 6], Error> {
        if self.required.iter().flatten().filter(|value| !value.is_empty()).count() < REQUIRED.len() {
            return Err(Error::with_message(
                Code::AuthorizationQueryParametersError,
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                 X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
            ));
        }
        Ok(self.required.clone().map(Option::unwrap_or_default))
    }
}

fn decode_text(raw: &str) -> Result<Cow<'_, str>, Error> {
    match uri::decode(raw, Plus::Space)? {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(raw)),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Error::new(Code::InvalidURI))
        }
    }
}
