//! Whether a page of a listing can be right.

use super::between;

/// A page has to be sorted, after the key it was to start after, and no longer than asked for.
pub(super) fn check_page(text: &[u8], after: &str, page: u32) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|_| "a listing that is not UTF-8")?;
    if !text.trim_end().ends_with("</ListBucketResult>") {
        return Err("a listing that is cut".into());
    }
    let (mut last, mut count) = (after, 0);
    for entry in text.split("<Contents>").skip(1) {
        let key = between(entry, "<Key>", "</Key>").ok_or("an entry without a key")?;
        if key <= last {
            return Err(format!("{key} is listed after {last}"));
        }
        (last, count) = (key, count + 1);
    }
    let named = between(text, "<KeyCount>", "</KeyCount>").and_then(|number| number.parse::<u32>().ok());
    match named {
        _ if count > page => Err(format!("{count} keys on a page of {page}")),
        Some(named) if named != count => Err(format!("{count} keys, and a KeyCount of {named}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_unsorted_too_long_or_cut_is_found() {
        let page = |keys: &[&str], count: usize| {
            let entries: String =
                keys.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
            format!("<ListBucketResult><KeyCount>{count}</KeyCount>{entries}</ListBucketResult>")
        };
        let check = |text: &str| check_page(text.as_bytes(), "a", 2);
        assert_eq!(check(&page(&["b", "c"], 2)), Ok(()));
        assert_eq!(check(&page(&[], 0)), Ok(()));
        assert!(check(&page(&["c", "b"], 2)).is_err());
        assert!(check(&page(&["a"], 1)).is_err());
        assert!(check(&page(&["b", "c", "d"], 3)).is_err());
        assert!(check(&page(&["b"], 2)).is_err());
        assert!(check(page(&["b"], 1).trim_end_matches("</ListBucketResult>")).is_err());
    }
}
