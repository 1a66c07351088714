//! Signals as values: SIGTERM and SIGINT end the node, SIGHUP reloads the certificate.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: finish what is in flight and end. The second one: end now.
    Terminate,
    /// SIGHUP: read the certificate again.
    Reload,
}

/// Calls `tell` with every signal from now on, on a thread of its own, until it answers `false`.
///
/// # Errors
/// When the kernel refuses a signal handler or a thread.
pub fn watch(mut tell: impl FnMut(Request) -> bool + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let request = if signal == SIGHUP { Request::Reload } else { Request::Terminate };
            if !tell(request) {
                break;
            }
        }
    })?;
    Ok(())
}
