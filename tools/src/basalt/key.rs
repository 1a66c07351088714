//! Key files, as the node writes them: 64 hexadecimal digits that nobody else may read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::crypto::{KEY_SIZE, MasterKey};
use zeroize::Zeroizing;

use super::Failure;

/// Reads the master key from a file.
///
/// # Errors
/// When it cannot be read, others may read it, or it is no key.
pub fn read(path: &Path) -> Result<MasterKey, Failure> {
    let failed = |error| Failure(format!("{}: cannot read the key: {error}", path.display()));
    let mode = fs::metadata(path).map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure(format!(
            "{} may be read by others (mode {mode:o}): `chmod 600` it, and use another key if somebody has",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(failed)?;
    parse(&text).ok_or_else(|| {
        Failure(format!("{} is no key file: it has to hold 64 hexadecimal digits", path.display()))
    })
}

fn parse(text: &str) -> Option<MasterKey> {
    let digits = text.trim().as_bytes();
    if digits.len() != 2 * KEY_SIZE {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_SIZE]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(MasterKey::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_64_digits_is_no_key() {
        let good = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        assert!(parse(good).is_some() && parse(&format!("{good}\n")).is_some());
        for text in ["", &good[1..], &format!("{good}0"), &good.replace('f', "g")] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
