//! Signing keys, and a bounded cache of them: deriving one costs four HMACs, more than the rest of verification.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::sigv4::scope::Scope;

/// Access keys whose signing keys are kept; above that the cache starts anew.
const ACCESS_KEYS_MAX: usize = 1024;
/// Signing keys kept for one access key: two days around midnight, two regions.
const KEYS_PER_ACCESS_KEY_MAX: usize = 4;

/// The key that signs everything of one access key, day, region and service.
#[derive(Clone)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key: HMACs of date, region, service and `aws4_request`, beginning with the secret.
    pub fn derive(secret: &str, scope: &Scope<'_>) -> Self {
        let start = Zeroizing::new(["AWS4", secret].concat());
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.as_bytes());
        for part in [scope.date, scope.region, scope.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        SigningKey(key)
    }

    /// Whether `signature` is that of `text`, in constant time.
    pub fn verifies(&self, text: &[u8], signature: &[u8; 32]) -> bool {
        hmac::verify(&self.0, text, signature).is_ok()
    }

    /// The signature of `text`.
    #[cfg(test)]
    pub fn sign(&self, text: &[u8]) -> [u8; 32] {
        hmac::sign(&self.0, text).as_ref().try_into().unwrap()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Signing keys of the requests seen lately, by access key, date and region.
///
/// An entry counts only while the secret is the one it was derived from, so that a changed secret takes effect at once.
#[derive(Default)]
pub(crate) struct SigningKeyCache {
    by_access_key: HashMap<String, Vec<Entry>>,
}

struct Entry {
    date: String,
    region: String,
    secret: Zeroizing<String>,
    key: SigningKey,
}

impl SigningKeyCache {
    /// The key, if it is there.
    pub fn find(&self, scope: &Scope<'_>, secret: &str) -> Option<&SigningKey> {
        let entries = self.by_access_key.get(scope.access_key)?;
        let entry = entries.iter().find(|entry| entry.date == scope.date && entry.region == scope.region)?;
        verify_slices_are_equal(entry.secret.as_bytes(), secret.as_bytes()).ok()?;
        Some(&entry.key)
    }

    /// Keeps a key that verified a request; only those, so that nobody without a secret can push others out.
    pub fn insert(&mut self, scope: &Scope<'_>, secret: &str, key: SigningKey) {
        if !self.by_access_key.contains_key(scope.access_key) && self.by_access_key.len() >= ACCESS_KEYS_MAX {
            self.by_access_key.clear();
        }
        let entries = self.by_access_key.entry(scope.access_key.to_string()).or_default();
        entries.retain(|entry| entry.date != scope.date || entry.region != scope.region);
        if entries.len() >= KEYS_PER_ACCESS_KEY_MAX {
            entries.remove(0);
        }
        entries.push(Entry {
            date: scope.date.to_string(),
            region: scope.region.to_string(),
            secret: Zeroizing::new(secret.to_string()),
            key,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Hex;
    use crate::sigv4::claim::Form;

    fn insert(cache: &mut SigningKeyCache, credential: &str) {
        let scope = Scope::parse(credential, Form::Header).unwrap();
        cache.insert(&scope, "secret", SigningKey::derive("secret", &scope));
    }

    fn contains(cache: &SigningKeyCache, credential: &str, secret: &str) -> bool {
        cache.find(&Scope::parse(credential, Form::Header).unwrap(), secret).is_some()
    }

    #[test]
    fn an_entry_is_found_by_key_date_and_region_and_only_with_its_secret() {
        let mut cache = SigningKeyCache::default();
        insert(&mut cache, "A/20130524/r/s3/aws4_request");
        assert!(contains(&cache, "A/20130524/r/s3/aws4_request", "secret"));
        assert!(!contains(&cache, "B/20130524/r/s3/aws4_request", "secret"));
        assert!(!contains(&cache, "A/20130525/r/s3/aws4_request", "secret"));
        assert!(!contains(&cache, "A/20130524/q/s3/aws4_request", "secret"));
        assert!(!contains(&cache, "A/20130524/r/s3/aws4_request", "changed"));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = SigningKeyCache::default();
        for day in 10..20 {
            insert(&mut cache, &format!("A/201305{day}/r/s3/aws4_request"));
        }
        assert_eq!(cache.by_access_key["A"].len(), KEYS_PER_ACCESS_KEY_MAX);
        assert!(contains(&cache, "A/20130519/r/s3/aws4_request", "secret"));
        for number in 0..ACCESS_KEYS_MAX + 1 {
            insert(&mut cache, &format!("K{number}/20130524/r/s3/aws4_request"));
            assert!(cache.by_access_key.len() <= ACCESS_KEYS_MAX);
        }
    }

    #[test]
    fn the_published_derivation_is_reproduced() {
        // AWS general reference, "Deriving the signing key": the signature of the published string to sign.
        let scope = Scope {
            access_key: "AKIDEXAMPLE",
            date: "20150830",
            region: "us-east-1",
            service: "iam",
            text: "20150830/us-east-1/iam/aws4_request",
        };
        let key = SigningKey::derive("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", &scope);
        let text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                    f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        assert_eq!(
            Hex(&key.sign(text.as_bytes())).to_string(),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }
}
