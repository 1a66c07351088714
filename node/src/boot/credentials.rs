//! The first access key, in the format of the AWS tools, so that `AWS_SHARED_CREDENTIALS_FILE` can name the file.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::{BootError, files};

/// Begins every access key that we make, as AWS's begin with AKIA.
const PREFIX: &str = "BSLT";

/// Characters of an access key after its prefix: 80 bits, 20 characters in all as AWS's.
const ID_LEN: usize = 16;

/// Characters of a secret: 238 bits.
const SECRET_LEN: usize = 40;

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public: names who signs.
    pub access_key: String,
    /// What they sign with.
    pub secret: Zeroizing<String>,
}

impl Credentials {
    fn generate() -> Result<Self, BootError> {
        let id = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ID_LEN)?;
        // No + and /, which AWS has: they need escaping in URLs and shells.
        let secret =
            random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", SECRET_LEN)?;
        Ok(Credentials { access_key: format!("{PREFIX}{id}"), secret: Zeroizing::new(secret) })
    }

    /// The profile `default` of a shared-credentials file.
    fn parse(text: &str) -> Option<Self> {
        let mut section = "";
        let (mut access_key, mut secret) = (None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.trim();
            } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "default") {
                match name.trim() {
                    "aws_access_key_id" => access_key = Some(value.trim().to_owned()),
                    "aws_secret_access_key" => secret = Some(Zeroizing::new(value.trim().to_owned())),
                    _ => {}
                }
            }
        }
        let (access_key, secret) = (access_key?, secret?);
        let is_usable = !access_key.is_empty() && !secret.is_empty() && !access_key.contains(['/', ' ']);
        is_usable.then_some(Credentials { access_key, secret })
    }

    fn to_file(&self) -> Zeroizing<String> {
        // The last two lines are for aws-cli and boto3, which presign with the retired version 2 otherwise.
        Zeroizing::new(format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\ns3 =\n    signature_version = s3v4\n",
            self.access_key, *self.secret
        ))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// Reads the file, or makes it.
pub fn obtain(path: &Path) -> Result<Credentials, BootError> {
    if let Some(text) = files::read_secret(path)?.map(Zeroizing::new) {
        return Credentials::parse(&text)
            .ok_or_else(|| BootError::CredentialsMalformed { path: path.to_owned() });
    }
    let credentials = Credentials::generate()?;
    files::write(path, credentials.to_file().as_bytes(), files::SECRET)?;
    Ok(credentials)
}

/// Characters drawn evenly from `alphabet`: random bytes that would favour its beginning are thrown away.
fn random_text(alphabet: &[u8], len: usize) -> Result<String, BootError> {
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let mut bytes = [0_u8; 64];
        rand::fill(&mut bytes).map_err(|_| BootError::Random)?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        text.extend(fair.take(len - text.len()).map(|byte| char::from(alphabet[byte % alphabet.len()])));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_credentials_look_like_aws_ones_and_survive_their_file() {
        let credentials = Credentials::generate().expect("random");
        assert!(credentials.access_key.starts_with(PREFIX));
        assert_eq!((credentials.access_key.len(), credentials.secret.len()), (20, 40));
        assert!(credentials.secret.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(Credentials::parse(&credentials.to_file()), Some(credentials));
    }

    #[test]
    fn the_default_profile_is_found_among_others() {
        let text = "# mine\n[other]\naws_access_key_id=A\naws_secret_access_key=B\n\n[default]\n; c\naws_secret_access_key=D\nregion = x\naws_access_key_id = C\n";
        let credentials = Credentials::parse(text).expect("there is a default profile");
        assert_eq!((credentials.access_key.as_str(), credentials.secret.as_str()), ("C", "D"));
    }

    #[test]
    fn a_file_without_both_halves_is_refused() {
        for text in [
            "",
            "[default]\naws_access_key_id = A\n",
            "aws_access_key_id=A\naws_secret_access_key=B\n",
            "[default]\naws_access_key_id=\naws_secret_access_key=\n",
        ] {
            assert_eq!(Credentials::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let credentials = Credentials::generate().expect("random");
        assert!(!format!("{credentials:?}").contains(credentials.secret.as_str()));
    }
}
