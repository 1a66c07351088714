//! Logs: structured, to standard error, as text or JSON; and the end of the process when anything panics.

use std::fmt;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// The logs can't be set up.
#[derive(Debug)]
pub enum LoggingError {
    /// The filter is not one.
    Filter {
        /// What was configured.
        level: String,
        /// Why it isn't one.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word of the filter is no level.
    NoLevel {
        /// The word.
        word: String,
        /// What was configured.
        level: String,
    },
    /// Something has set up logs before.
    AlreadySet,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoggingError::Filter { level, source } => write!(
                f,
                "log.level (or RUST_LOG) is {level:?}: {source}; write error, warn, info, debug or trace, or a list like \
                 \"info,node=debug\""
            ),
            LoggingError::NoLevel { word, level } => write!(
                f,
                "log.level (or RUST_LOG) is {level:?}: {word:?} is no level; write error, warn, info, debug or trace, or a list \
                 like \"info,node=debug\""
            ),
            LoggingError::AlreadySet => f.write_str("logs are set up once per process"),
        }
    }
}

impl std::error::Error for LoggingError {}

/// Sends logs to standard error. The variable `RUST_LOG`, when set, wins over the configured level.
///
/// # Errors
/// When the level is no filter.
pub fn start(log: &Log) -> Result<(), LoggingError> {
    let level =
        std::env::var("RUST_LOG").ok().filter(|level| !level.is_empty()).unwrap_or_else(|| log.level.clone());
    if let Some(word) = misspelt_level(&level) {
        return Err(LoggingError::NoLevel { word: word.to_owned(), level });
    }
    let filter = EnvFilter::try_new(&level).map_err(|source| LoggingError::Filter { level, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match log.format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_thread_names(true).try_init(),
    };
    result.map_err(|_| LoggingError::AlreadySet)
}

/// A word that stands where a level should: the library would take it for a module's name, and then log nothing else.
fn misspelt_level(filter: &str) -> Option<&str> {
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| word.eq_ignore_ascii_case(level))
    };
    filter.split(',').map(str::trim).find(|word| !word.contains('=') && !is_level(word))
}

/// From now on a panic of any thread ends the process. A core that has panicked can answer for its shard no more, and
/// the store recovers by design; half a node doesn't.
pub fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            location,
            "basalt-node ends because of a panic; this is a bug, please report it with the lines above. What was \
             acknowledged is safe: start the node again"
        );
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::misspelt_level;

    #[test]
    fn a_misspelt_level_is_found_and_a_filter_of_modules_is_not() {
        assert_eq!(misspelt_level("wran"), Some("wran"));
        assert_eq!(misspelt_level("info, nod"), Some("nod"));
        for filter in ["info", "WARN", "info,node=debug", "off,engine=trace"] {
            assert_eq!(misspelt_level(filter), None, "{filter}");
        }
    }
}
