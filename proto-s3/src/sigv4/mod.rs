//! Signature Version 4: who sent a request, and whether head and payload are as that sender made them.
//!
//! ```text
//!  head --claim--> scope, signed headers, signature, time --canonical--> string to sign --key--> verified
//!                                                                                          |
//!                          PayloadAuth: nothing, a SHA-256, or a chain of chunk signatures <--
//! ```
//!
//! - The order of the checks is: well-formed, region, time, key known, token, payload hash, coverage, signature. All
//!   comparisons of secrets take constant time.
//! - Host and every `x-amz-*` header must be signed; a header that is not could have been added on the way.
//! - Source: S3 API reference, "Authenticating Requests (AWS Signature Version 4)".

mod canonical;
mod chain;
mod claim;
mod hoist;
mod key;
mod payload;
mod scope;

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use smallvec::SmallVec;

use crate::encoding::Hex;
use crate::error::{Code, Error};
use crate::http::RequestHead;
use crate::limits::Limits;
use crate::time::{self, UnixSeconds};

pub use chain::ChunkChain;
pub use claim::Form;
pub use hoist::adopt_query_headers;
pub use payload::PayloadAuth;

use canonical::{Subject, Workspace};
use claim::Claim;
use key::{SigningKey, SigningKeyCache};
use payload::PayloadKind;
use scope::Scope;

/// Names in one SignedHeaders: as many as a head may have headers. Each is looked up among all of them.
const SIGNED_HEADERS_MAX: usize = 128;

/// The one algorithm spoken here.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is known of an access key.
#[derive(Clone, Copy)]
pub struct Secret<'a> {
    /// The secret access key.
    pub text: &'a str,
    /// The session token that requests must carry, for temporary credentials; others must carry none.
    pub session_token: Option<&'a str>,
}

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The access keys of a node.
pub trait Credentials {
    /// What belongs to an access key; `None` when it does not exist.
    fn secret(&self, access_key: &str) -> Option<Secret<'_>>;
}

/// What is accepted, and when "now" is.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The time of the check.
    pub now: UnixSeconds,
    /// How far the time of a request may be from `now` (AWS: 15 minutes).
    pub skew_seconds: i64,
    /// The region that scopes must name; `None` accepts any.
    pub region: Option<String>,
    /// Whether `SignatureDoesNotMatch` shows the canonical request and the string to sign.
    pub debug_canonical: bool,
    /// Longest lifetime of a presigned URL.
    pub presign_seconds_max: i64,
}

impl Policy {
    /// AWS's rules at that time, for any region.
    pub fn at(now: UnixSeconds) -> Self {
        Policy {
            now,
            skew_seconds: 15 * 60,
            region: None,
            debug_canonical: false,
            presign_seconds_max: Limits::default().presign_seconds_max,
        }
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nobody that says so.
    Anonymous {
        /// The protection of the payload.
        payload: PayloadAuth,
    },
    /// The holder of an access key.
    Signed(Signed),
}

impl Authentication {
    /// The protection of the payload.
    pub fn payload(&self) -> &PayloadAuth {
        match self {
            Authentication::Anonymous { payload } => payload,
            Authentication::Signed(signed) => &signed.payload,
        }
    }
}

/// A request whose head is verified.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The access key that signed it.
    pub access_key: String,
    /// The region of its scope.
    pub region: String,
    /// When it was signed.
    pub signed_at: UnixSeconds,
    /// Where the signature was.
    pub form: Form,
    /// The protection of the payload.
    pub payload: PayloadAuth,
}

impl Signed {
    /// Whether it came by a presigned URL.
    pub fn is_presigned(&self) -> bool {
        self.form == Form::Query
    }
}

/// Verifies requests, keeping buffers and signing keys from one to the next: one for each core.
#[derive(Default)]
pub struct Authenticator {
    keys: SigningKeyCache,
    workspace: Workspace,
}

impl Authenticator {
    /// With nothing cached.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds out who sent the request and verifies its signature.
    ///
    /// Errors are AWS's: `AuthorizationHeaderMalformed`, `AuthorizationQueryParametersError`, `AccessDenied` (no date,
    /// expired, headers not signed), `RequestTimeTooSkewed`, `InvalidAccessKeyId`, `InvalidToken`,
    /// `SignatureDoesNotMatch`, and `InvalidRequest` or `InvalidArgument` for what is not SigV4.
    pub fn authenticate(
        &mut self,
        head: &RequestHead,
        credentials: &dyn Credentials,
        policy: &Policy,
    ) -> Result<Authentication, Error> {
        let Some(claim) = Claim::find(head, policy.presign_seconds_max)? else {
            return anonymous(head);
        };
        let scope = Scope::parse(&claim.credential, claim.form)?;
        scope.check_date(claim.signed_at, claim.form)?;
        scope.check_region(policy.region.as_deref(), claim.form)?;
        check_time(&claim, policy)?;
        let secret = credentials
            .secret(scope.access_key)
            .ok_or_else(|| Error::new(Code::InvalidAccessKeyId).detail("AWSAccessKeyId", scope.access_key))?;
        check_token(claim.session_token.as_deref(), secret.session_token)?;
        let payload_hash = payload_hash(&claim)?;
        let payload = PayloadKind::parse(payload_hash)?;
        check_coverage(head, &claim)?;
        let amz_date = time::amz_date(claim.signed_at);
        self.workspace.build(&Subject {
            method: head.method.as_str(),
            raw_path: &head.raw_path,
            raw_query: &head.raw_query,
            headers: &head.headers,
            signed_headers: &claim.signed_headers,
            payload_hash,
            amz_date: &amz_date,
            scope: scope.text,
        })?;
        if !self.verify(&claim, &scope, secret.text) {
            return Err(self.mismatch(&claim, &scope, policy));
        }
        let chain = || {
            let key = self.keys.find(&scope, secret.text).expect("a key that verified is kept");
            ChunkChain::new(key.clone(), &amz_date, scope.text, claim.signature)
        };
        Ok(Authentication::Signed(Signed {
            access_key: scope.access_key.to_string(),
            region: scope.region.to_string(),
            signed_at: claim.signed_at,
            form: claim.form,
            payload: payload.into_auth(chain),
        }))
    }

    /// Whether the signature is right; then the signing key is in the cache.
    fn verify(&mut self, claim: &Claim<'_>, scope: &Scope<'_>, secret: &str) -> bool {
        let text = self.workspace.string_to_sign();
        if let Some(key) = self.keys.find(scope, secret) {
            return key.verifies(text, &claim.signature);
        }
        let key = SigningKey::derive(secret, scope);
        let is_right = key.verifies(text, &claim.signature);
        if is_right {
            self.keys.insert(scope, secret, key);
        }
        is_right
    }

    fn mismatch(&self, claim: &Claim<'_>, scope: &Scope<'_>, policy: &Policy) -> Error {
        let error = Error::new(Code::SignatureDoesNotMatch).detail("AWSAccessKeyId", scope.access_key);
        if !policy.debug_canonical {
            return error;
        }
        error
            .detail("StringToSign", String::from_utf8_lossy(self.workspace.string_to_sign()))
            .detail("SignatureProvided", Hex(&claim.signature).to_string())
            .detail("CanonicalRequest", String::from_utf8_lossy(self.workspace.request()))
    }
}

/// Verifies one request, with nothing cached: for tools and tests. See [`Authenticator::authenticate`].
pub fn authenticate(
    head: &RequestHead,
    credentials: &dyn Credentials,
    policy: &Policy,
) -> Result<Authentication, Error> {
    Authenticator::new().authenticate(head, credentials, policy)
}

fn anonymous(head: &RequestHead) -> Result<Authentication, Error> {
    let payload = match head.header_bytes("x-amz-content-sha256") {
        None => PayloadAuth::Unsigned,
        Some(value) => PayloadKind::parse(&String::from_utf8_lossy(value))?.into_anonymous_auth()?,
    };
    Ok(Authentication::Anonymous { payload })
}

/// A header-signed request must be from about now; a presigned one valid now.
fn check_time(claim: &Claim<'_>, policy: &Policy) -> Result<(), Error> {
    let denied = |message: &'static str| Error::with_message(Code::AccessDenied, message);
    let server_time = || time::iso8601(policy.now.saturating_mul(1000));
    let age_seconds = policy.now.saturating_sub(claim.signed_at);
    match claim.lifetime_seconds {
        None if age_seconds.saturating_abs() > policy.skew_seconds => {
            Err(Error::new(Code::RequestTimeTooSkewed)
                .detail("RequestTime", time::amz_date(claim.signed_at))
                .detail("ServerTime", server_time())
                .detail("MaxAllowedSkewMilliseconds", policy.skew_seconds.saturating_mul(1000).to_string()))
        }
        Some(_) if age_seconds < -policy.skew_seconds => Err(denied("Request is not yet valid")
            .detail("X-Amz-Date", time::amz_date(claim.signed_at))
            .detail("ServerTime", server_time())),
        Some(lifetime) if age_seconds > lifetime => Err(denied("Request has expired")
            .detail("X-Amz-Expires", lifetime.to_string())
            .detail("Expires", time::iso8601(claim.signed_at.saturating_add(lifetime).saturating_mul(1000)))
            .detail("ServerTime", server_time())),
        _ => Ok(()),
    }
}

/// The session token must be the one that belongs to the key, or absent when none does.
fn check_token(given: Option<&str>, expected: Option<&str>) -> Result<(), Error> {
    let is_right = match (given, expected) {
        (None, None) => true,
        (Some(given), Some(expected)) => {
            verify_slices_are_equal(given.as_bytes(), expected.as_bytes()).is_ok()
        }
        _ => false,
    };
    if is_right { Ok(()) } else { Err(Code::InvalidToken.into()) }
}

/// The last line of the canonical request.
fn payload_hash<'c>(claim: &'c Claim<'_>) -> Result<&'c str, Error> {
    match (&claim.content_sha256, claim.form) {
        (Some(value), _) => Ok(value),
        (None, Form::Query) => Ok(payload::UNSIGNED),
        (None, Form::Header) => Err(Error::with_message(
            Code::InvalidRequest,
            "Missing required header for this request: x-amz-content-sha256",
        )),
    }
}

/// Host and every `x-amz-*` header that is there must be signed; each name is in lowercase and listed once.
fn check_coverage(head: &RequestHead, claim: &Claim<'_>) -> Result<(), Error> {
    let names: SmallVec<[&str; 16]> = claim.signed_headers.split(';').take(SIGNED_HEADERS_MAX + 1).collect();
    // Sorted and unique is what every signer writes, and makes the check for repetition cheap.
    let is_sorted = names.is_sorted_by(|a, b| a < b);
    if !is_sorted || !names.iter().copied().all(is_lowercase_name) || names.len() > SIGNED_HEADERS_MAX {
        return Err(claim.form.malformed(
            "SignedHeaders",
            "SignedHeaders must be lowercase header names, sorted, each once, separated by semicolons.",
        ));
    }
    let is_signed = |wanted: &str| names.binary_search(&wanted).is_ok();
    let mut missing: Vec<&str> = Vec::new();
    if !is_signed("host") {
        missing.push("host");
    }
    for (name, _) in &head.headers {
        if name.starts_with("x-amz-") && !is_signed(name) && !missing.contains(&name) {
            missing.push(name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::with_message(
        Code::AccessDenied,
        "There were headers present in the request which were not signed",
    )
    .detail("HeadersNotSigned", missing.join(", ")))
}

fn is_lowercase_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests;
