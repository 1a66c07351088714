//! An access key, given or read from a file in the AWS shared-credentials format.

use std::fs;
use std::io;
use std::path::Path;

/// An access key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

impl Credentials {
    /// Reads the section `profile` of an AWS shared-credentials file.
    pub fn read(path: &Path, profile: &str) -> io::Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Self::parse(&text, profile).ok_or_else(|| {
            let what = format!(
                "{}: no profile [{profile}] with aws_access_key_id and aws_secret_access_key",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }

    fn parse(text: &str, profile: &str) -> Option<Self> {
        let (mut access_key, mut secret_key) = (None, None);
        let mut is_in_profile = false;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                is_in_profile = section.trim() == profile;
            } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in_profile) {
                match name.trim() {
                    "aws_access_key_id" => access_key = Some(value.trim().to_owned()),
                    "aws_secret_access_key" => secret_key = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
        }
        Some(Self { access_key: access_key?, secret_key: secret_key? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a comment\n[other]\naws_access_key_id = X\n\n[default]\naws_access_key_id = AK\naws_secret_access_key=a/b+c=\n";

    #[test]
    fn the_named_profile_is_read_and_a_secret_may_hold_an_equals_sign() {
        let read = Credentials::parse(FILE, "default").unwrap();
        assert_eq!(read, Credentials { access_key: "AK".into(), secret_key: "a/b+c=".into() });
    }

    #[test]
    fn a_profile_without_a_secret_is_none() {
        assert_eq!(Credentials::parse(FILE, "other"), None);
        assert_eq!(Credentials::parse(FILE, "absent"), None);
    }
}
