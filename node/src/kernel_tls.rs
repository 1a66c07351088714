//! Whether connections may be given to the kernel's TLS: what the configuration allows, and the kernel offers.

use std::io;

use serde::Deserialize;

use crate::stream::kernel::Offer;

/// `network.kernel_tls`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum KernelTls {
    /// Never.
    #[default]
    Off,
    /// Those connections that the kernel takes.
    Auto,
}

impl KernelTls {
    /// What the kernel offers, if it is allowed; the log says so.
    pub fn offer(self) -> Offer {
        if self == KernelTls::Off {
            return Offer::NOTHING;
        }
        match Offer::probe() {
            Ok(offer) if !offer.is_nothing() => {
                tracing::info!(
                    can_rekey = offer.can_rekey(),
                    "kernel TLS: the kernel seals and opens {offer}"
                );
                offer
            }
            Ok(_) => {
                tracing::info!("kernel TLS: the kernel takes none of our ciphers; TLS stays in the node");
                Offer::NOTHING
            }
            Err(error) => {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let advice = if is_missing { " (modprobe tls)" } else { "" };
                tracing::info!(%error, "kernel TLS: the kernel has none{advice}; TLS stays in the node");
                Offer::NOTHING
            }
        }
    }
}
