//! The accounts of all buckets, and the targets they are made with. Locked when a core sees a bucket for the first time and when targets change, never
//! for a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::account::Account;
use super::tally::{self, Tally};
use super::targets::{Targets, Wanted};
use crate::config;
use crate::metrics::Exposition;

/// The label of buckets that have none of their own.
const OTHER: &str = "other";

/// The rate targets of a node.
#[derive(Debug)]
pub struct Rates {
    /// Requests that one core works on at once.
    pub in_flight_max: usize,
    /// Writes of a core that wait for a flush at once, beside those.
    pub committing_max: usize,
    /// How long a request waits for its turn.
    pub wait_max: Duration,
    default: Targets,
    begun: Instant,
    core_count: usize,
    labels_max: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Buckets whose targets are not the default.
    own: BTreeMap<String, Targets>,
    accounts: HashMap<String, Arc<Account>>,
    /// For requests that are about no bucket of their user.
    nobody: Arc<Account>,
    tallies: Vec<Arc<Tally>>,
}

impl Rates {
    /// With the targets of the configuration. Buckets that it names have labels of their own in any case.
    pub fn new(config: &config::Rates, core_count: usize) -> Arc<Self> {
        let default = config.targets();
        let other = Arc::new(Tally::new(OTHER.to_owned(), core_count));
        let nobody = Arc::new(Account::new(0, &default, other.clone()));
        let table = Table { own: BTreeMap::new(), accounts: HashMap::new(), nobody, tallies: vec![other] };
        let rates = Rates {
            in_flight_max: config.in_flight_per_core_max,
            committing_max: config.committing_per_core_max,
            wait_max: config.wait_max.0,
            default,
            begun: Instant::now(),
            core_count,
            labels_max: config.metrics_buckets_max,
            table: Mutex::new(table),
        };
        for bucket in &config.buckets {
            rates.set(&bucket.name, &bucket.wanted());
            rates.account(&bucket.name);
        }
        Arc::new(rates)
    }

    /// Nanoseconds from the start of the node to `instant`.
    pub fn nanos(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The account of a bucket.
    pub fn account(&self, bucket: &str) -> Arc<Account> {
        let mut table = self.table();
        if let Some(account) = table.accounts.get(bucket) {
            return account.clone();
        }
        // The first of the tallies is that of the others.
        let tally = if table.tallies.len() <= self.labels_max {
            let tally = Arc::new(Tally::new(bucket.to_owned(), self.core_count));
            table.tallies.push(tally.clone());
            tally
        } else {
            table.tallies[0].clone()
        };
        let targets = table.own.get(bucket).unwrap_or(&self.default);
        let account = Arc::new(Account::new(table.accounts.len() + 1, targets, tally));
        table.accounts.insert(bucket.to_owned(), account.clone());
        account
    }

    /// The account of requests that are about no bucket of their user.
    pub fn nobody(&self) -> Arc<Account> {
        self.table().nobody.clone()
    }

    /// The targets of buckets that have none of their own.
    pub fn default_targets(&self) -> Targets {
        self.default
    }

    /// Gives a bucket targets of its own, which count at once.
    pub fn set(&self, bucket: &str, wanted: &Wanted) {
        let targets = wanted.or(&self.default);
        let mut table = self.table();
        table.own.insert(bucket.to_owned(), targets);
        table.accounts.get(bucket).inspect(|account| account.retarget(&targets));
    }

    /// Takes them away; `false` when it had none.
    pub fn clear(&self, bucket: &str) -> bool {
        let mut table = self.table();
        table.accounts.get(bucket).inspect(|account| account.retarget(&self.default));
        table.own.remove(bucket).is_some()
    }

    /// Buckets that have targets of their own.
    pub fn own_targets(&self) -> BTreeMap<String, Targets> {
        self.table().own.clone()
    }

    /// Renders what was counted, with no more labels than there may be.
    pub fn render(&self, out: &mut Exposition) {
        let tallies = self.table().tallies.clone();
        tally::render(tallies.iter().map(Arc::as_ref), out);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder panics")
    }
}

/// Whether a bucket can have this name.
pub fn is_bucket_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::super::account::Standing;
    use super::super::tally::Passage;
    use super::super::targets::Class;
    use super::*;

    #[test]
    fn buckets_beyond_the_labels_share_one() {
        let config = config::Rates { metrics_buckets_max: 2, ..config::Rates::default() };
        let rates = Rates::new(&config, 1);
        for name in ["one", "two", "three", "four"] {
            rates.account(name).tally.count(0, Class::Read, Passage::Surplus, Duration::ZERO);
        }
        let mut out = Exposition::new();
        rates.render(&mut out);
        let text = out.into_string();
        let count = |bucket| {
            let start = format!(
                "basalt_rate_requests_total{{bucket=\"{bucket}\",class=\"read\",standing=\"surplus\"}} "
            );
            text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        assert_eq!(count("one").as_deref(), Some("1"), "{text}");
        assert_eq!(count("three"), None);
        assert_eq!(count("other").as_deref(), Some("2"), "{text}");
        assert!(text.contains("basalt_rate_wait_seconds_count{bucket=\"other\"} 2"), "{text}");
    }

    #[test]
    fn targets_set_and_cleared_reach_the_accounts_that_cores_hold() {
        let rates = Rates::new(&config::Rates::default(), 1);
        let account = rates.account("bucket");
        rates.set("bucket", &Wanted { reads: Some(0), ..Wanted::default() });
        assert_eq!(account.enter(Class::Read, 0), Standing::Surplus);
        assert_eq!(account.enter(Class::Write, 0), Standing::Committed { due: 0 });
        assert!(rates.clear("bucket") && !rates.clear("bucket"));
        assert_eq!(account.enter(Class::Read, 0), Standing::Committed { due: 0 });
        assert!(rates.own_targets().is_empty());
    }
}
