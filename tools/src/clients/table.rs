//! What became of each client, and the table of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::Value;

/// What became of one client.
#[derive(Debug)]
pub(super) struct Outcome {
    client: &'static str,
    version: String,
    passed: u64,
    failed: u64,
    seconds: f64,
    /// Why there is nothing to count.
    trouble: Option<Trouble>,
}

#[derive(Debug)]
enum Trouble {
    Missing,
    Crashed(String),
}

impl Outcome {
    /// The client could not be installed.
    pub fn missing(client: &'static str, reason: &str) -> Self {
        eprintln!("==> {client}: MISSING, {reason}");
        Self::empty(client, Some(Trouble::Missing))
    }

    /// The script did not come to its end.
    pub fn crashed(client: &'static str, what: String) -> Self {
        Self::empty(client, Some(Trouble::Crashed(what)))
    }

    fn empty(client: &'static str, trouble: Option<Trouble>) -> Self {
        Self { client, version: String::new(), passed: 0, failed: 0, seconds: 0.0, trouble }
    }

    /// Reads what the script has written about itself.
    pub fn read(client: &'static str, results: &Path, status: ExitStatus) -> Self {
        let text = fs::read_to_string(results).unwrap_or_default();
        match (serde_json::from_str::<Value>(&text), status.success()) {
            (Ok(value), is_success) => {
                let outcome = Self::from_json(client, &value);
                // A script that fails without a failed step has a fault of its own.
                if !is_success && outcome.failed == 0 {
                    return Self::crashed(client, format!("its script ended with {status}"));
                }
                outcome
            }
            (Err(_), _) => Self::crashed(client, format!("its script ended with {status}, without results")),
        }
    }

    fn from_json(client: &'static str, value: &Value) -> Self {
        let mut outcome = Self::empty(client, None);
        outcome.version = value["version"].as_str().unwrap_or_default().to_owned();
        for step in value["steps"].as_array().into_iter().flatten() {
            outcome.seconds += step["seconds"].as_f64().unwrap_or_default();
            if step["failure"].is_null() {
                outcome.passed += 1;
            } else {
                outcome.failed += 1;
            }
        }
        outcome
    }

    pub fn client(&self) -> &'static str {
        self.client
    }

    pub fn is_good(&self, is_missing_allowed: bool) -> bool {
        match &self.trouble {
            None => self.failed == 0 && self.passed > 0,
            Some(Trouble::Missing) => is_missing_allowed,
            Some(Trouble::Crashed(_)) => false,
        }
    }
}

/// One line per client.
pub(super) fn render(outcomes: &[Outcome]) -> String {
    let mut table =
        format!("\n{:8} {:18} {:>6} {:>6} {:>8}\n", "client", "version", "passed", "failed", "seconds");
    for Outcome { client, version, passed, failed, seconds, trouble } in outcomes {
        let note = match trouble {
            None => "",
            Some(Trouble::Missing) => "  MISSING",
            Some(Trouble::Crashed(what)) => &format!("  {what}"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(table, "{client:8} {version:18} {passed:6} {failed:6} {seconds:8.1}{note}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Outcome {
        Outcome::from_json("curl", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn a_client_is_good_when_it_passed_something_and_failed_nothing() {
        let good = r#"{"version": "8", "steps": [{"step": "a", "seconds": 1.5, "failure": null}]}"#;
        let bad = r#"{"version": "8", "steps": [{"step": "a", "seconds": 1.5, "failure": "no"}]}"#;
        assert!(outcome(good).is_good(true));
        assert!(!outcome(bad).is_good(true));
        assert!(!outcome("{}").is_good(true), "nothing was tried");
    }

    #[test]
    fn a_missing_client_is_good_only_when_that_is_allowed() {
        let missing = Outcome::missing("s3cmd", "no network");
        assert!(missing.is_good(true) && !missing.is_good(false));
        assert!(render(&[missing]).contains("MISSING"));
    }
}
