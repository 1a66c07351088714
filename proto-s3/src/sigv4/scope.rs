//! The credential scope: which key, on which day, where, for which service.

use crate::encoding;
use crate::error::Error;
use crate::sigv4::claim::Form;
use crate::time;

/// The service that every scope must name.
const SERVICE: &str = "s3";
/// The last component of every scope.
const TERMINAL: &str = "aws4_request";

/// `AKID/20130524/us-east-1/s3/aws4_request`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope<'a> {
    pub access_key: &'a str,
    /// `20130524`
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    /// All but the access key, as strings to sign carry it.
    pub text: &'a str,
}

impl<'a> Scope<'a> {
    /// Reads the value of `Credential`. The access key may contain slashes, so the parts are counted from the end.
    pub fn parse(credential: &'a str, form: Form) -> Result<Self, Error> {
        let malformed = || {
            form.malformed(
                "Credential",
                "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            )
        };
        let mut parts = credential.rsplitn(5, '/');
        let mut part = || parts.next().ok_or_else(malformed);
        let (terminal, service, region, date, access_key) = (part()?, part()?, part()?, part()?, part()?);
        let text = &credential[access_key.len() + 1..];
        let scope = Scope { access_key, date, region, service, text };
        scope.check(terminal, form)?;
        Ok(scope)
    }

    fn check(&self, terminal: &str, form: Form) -> Result<(), Error> {
        if self.access_key.is_empty() {
            let reason = "a non-empty Access Key (AKID) must be provided in the credential.";
            return Err(form.malformed("Credential", reason));
        }
        if self.date.len() != 8 || encoding::decimal(self.date.as_bytes()).is_none() {
            let reason = format!(
                "incorrect date format \"{}\". This date in the credential must be in the format \"yyyyMMdd\".",
                self.date
            );
            return Err(form.malformed("Credential", &reason));
        }
        if self.region.is_empty() {
            return Err(form.malformed("Credential", "the region is empty; name any region."));
        }
        if self.service != SERVICE {
            let reason =
                format!("incorrect service \"{}\". This endpoint belongs to \"{SERVICE}\".", self.service);
            return Err(form.malformed("Credential", &reason));
        }
        if terminal != TERMINAL {
            let reason = format!("incorrect terminal \"{terminal}\". This endpoint uses \"{TERMINAL}\".");
            return Err(form.malformed("Credential", &reason));
        }
        Ok(())
    }

    /// The day of the scope must be the day of the request.
    pub fn check_date(&self, signed_at: time::UnixSeconds, form: Form) -> Result<(), Error> {
        let amz_date = time::amz_date(signed_at);
        if amz_date.starts_with(self.date) {
            return Ok(());
        }
        let reason = format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            self.date,
            &amz_date[..8]
        );
        Err(form.malformed("Credential", &reason))
    }

    /// The region must be the one that is served, when only one is.
    pub fn check_region(&self, expected: Option<&str>, form: Form) -> Result<(), Error> {
        match expected {
            Some(expected) if expected != self.region => {
                let reason = format!("the region '{}' is wrong; expecting '{expected}'", self.region);
                Err(form.malformed("Credential", &reason).detail("Region", expected))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_scope_is_read_from_its_end() {
        let scope = Scope::parse("a/b/20130524/r/s3/aws4_request", Form::Header).unwrap();
        assert_eq!(
            (scope.access_key, scope.date, scope.region, scope.service),
            ("a/b", "20130524", "r", "s3")
        );
        assert_eq!(scope.text, "20130524/r/s3/aws4_request");
    }

    #[test]
    fn a_malformed_scope_says_what_is_wrong() {
        for (credential, reason) in [
            ("", "mal-formed"),
            ("AKID", "mal-formed"),
            ("20130524/r/s3/aws4_request", "mal-formed"),
            ("/20130524/r/s3/aws4_request", "non-empty Access Key"),
            ("AKID/2013052/r/s3/aws4_request", "date format"),
            ("AKID/2013-5-4/r/s3/aws4_request", "date format"),
            ("AKID/20130524//s3/aws4_request", "region is empty"),
            ("AKID/20130524/r/ec2/aws4_request", "incorrect service"),
            ("AKID/20130524/r/s3/aws4", "incorrect terminal"),
        ] {
            let header = Scope::parse(credential, Form::Header).unwrap_err();
            assert_eq!(header.code, Code::AuthorizationHeaderMalformed, "{credential}");
            assert!(header.message.contains(reason), "{credential}: {}", header.message);
            let query = Scope::parse(credential, Form::Query).unwrap_err();
            assert_eq!(query.code, Code::AuthorizationQueryParametersError, "{credential}");
        }
    }
}
