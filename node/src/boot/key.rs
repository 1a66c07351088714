//! The master key: 32 random bytes that wrap every other key.

use std::fmt;
use std::path::Path;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::devices::DeviceContent;
use super::{BootError, DevicePlan, files};
use crate::config::{Config, KeySource};

/// Bytes of the key.
const KEY_LEN: usize = 32;

/// The master key. Wiped from memory when dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Zeroizing<[u8; KEY_LEN]>);

impl MasterKey {
    /// The bytes.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn generate() -> Result<Self, BootError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        rand::fill(&mut key[..]).map_err(|_| BootError::Random)?;
        Ok(MasterKey(key))
    }

    fn parse(text: &str, origin: impl FnOnce() -> String) -> Result<Self, BootError> {
        let digits = text.trim().as_bytes();
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let mut is_valid = digits.len() == 2 * KEY_LEN;
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            match (nibble(pair[0]), nibble(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => is_valid = false,
            }
        }
        if is_valid { Ok(MasterKey(key)) } else { Err(BootError::KeyMalformed { origin: origin() }) }
    }

    fn to_hex(&self) -> Zeroizing<String> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16");
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 1));
        for byte in self.0.iter() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text.push('\n');
        text
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// The key from where the configuration says; without word, from the data directory, made there at the first start.
pub fn obtain(config: &Config, data_dir: &Path, devices: &[DevicePlan]) -> Result<MasterKey, BootError> {
    match &config.store.key_source {
        Some(KeySource::Env(name)) => {
            let text = Zeroizing::new(
                std::env::var(name).map_err(|_| BootError::KeyVariable { name: name.clone() })?,
            );
            MasterKey::parse(&text, || format!("the environment variable {name}"))
        }
        Some(KeySource::File(path)) => match read(path)? {
            Some(key) => Ok(key),
            None => Err(BootError::File {
                path: path.clone(),
                action: "read",
                source: std::io::ErrorKind::NotFound.into(),
            }),
        },
        None => {
            let path = data_dir.join("key");
            match read(&path)? {
                Some(key) => Ok(key),
                None => create(&path, devices),
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<MasterKey>, BootError> {
    let text = files::read_secret(path)?.map(Zeroizing::new);
    text.map(|text| MasterKey::parse(&text, || path.display().to_string())).transpose()
}

/// A new key, unless there are devices that an old one has sealed.
fn create(path: &Path, devices: &[DevicePlan]) -> Result<MasterKey, BootError> {
    let used = devices.iter().find(|device| matches!(device.content, DeviceContent::File { len } if len > 0));
    if let Some(device) = used {
        return Err(BootError::KeyMissing { path: path.to_owned(), device: device.path.clone() });
    }
    let key = MasterKey::generate()?;
    files::write(path, key.to_hex().as_bytes(), files::SECRET)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = MasterKey::generate().expect("random");
        assert_eq!(MasterKey::parse(&key.to_hex(), String::new).ok(), Some(key));
    }

    #[test]
    fn what_is_not_64_digits_is_no_key() {
        let good = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        assert!(MasterKey::parse(good, String::new).is_ok());
        for text in
            ["", &good[1..], &format!("{good}0"), &good.replace('f', "g"), &format!("é{}", &good[2..])]
        {
            assert!(MasterKey::parse(text, String::new).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = MasterKey::parse(&"ab".repeat(32), String::new).expect("a key");
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
    }
}
