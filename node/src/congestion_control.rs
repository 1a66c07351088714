//! The congestion control of connections: by default the kernel's, or the one that the configuration names.
//!
//! It is set on listening sockets; the kernel gives every connection that it accepts on one the same.

use std::fmt;
use std::fs;
use std::io;

use socket2::{Domain, Protocol, Socket, Type};

/// What the kernel can do without loading a module, and what it lets everybody use.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// A congestion control that the kernel grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CongestionControl(String);

/// A congestion control that the kernel refuses.
#[derive(Debug)]
pub struct CongestionControlError {
    /// Its name.
    pub name: String,
    /// Why.
    pub source: io::Error,
}

impl CongestionControl {
    /// The one of that name.
    ///
    /// # Errors
    /// When the kernel refuses to set it on a socket.
    pub fn named(name: &str) -> Result<Self, CongestionControlError> {
        let wanted = CongestionControl(name.to_owned());
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
            .and_then(|socket| wanted.set(&socket))
            .map_err(|source| CongestionControlError { name: name.to_owned(), source })?;
        Ok(wanted)
    }

    /// Sets it on a socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn set(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_congestion(self.0.as_bytes())
    }
}

impl fmt::Display for CongestionControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CongestionControlError { name, source } = self;
        let list = |path| {
            fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |list| list.trim().to_owned())
        };
        write!(f, "network.tcp_congestion_control: the kernel refuses {name:?}: {source}; ")?;
        if source.kind() == io::ErrorKind::PermissionDenied {
            return write!(
                f,
                "it lets everybody use those in {ALLOWED} ({}): add it there (sysctl)",
                list(ALLOWED)
            );
        }
        write!(
            f,
            "it offers those in {AVAILABLE} ({}): choose one, or load another (modprobe tcp_NAME)",
            list(AVAILABLE)
        )
    }
}

impl std::error::Error for CongestionControlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_exist_is_refused_with_those_that_do() {
        let error = CongestionControl::named("nonesuch").expect_err("no kernel has it").to_string();
        let offered = fs::read_to_string(AVAILABLE).expect("Linux says so");
        for part in ["nonesuch", "network.tcp_congestion_control", AVAILABLE, offered.trim()] {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}
