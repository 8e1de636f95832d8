//! The edge towards a network that may be hostile: who may swap, which names this server answers to, which web pages may
//! call it, and TLS. Reading order: [`host`], [`cors`], [`headers`], [`tls`],
//! [`certificate`].

mod certificate;
pub(crate) mod cors;
pub(crate) mod headers;
pub(crate) mod host;
pub(crate) mod tls;

pub use certificate::{Standing, Validity};
pub use cors::Origins;
pub use host::AllowedHosts;
pub use tls::{Tls, TlsError};

use crate::keys::Keys;

/// What may be set of it.
#[derive(Clone, Default, Debug)]
pub struct Edge {
    /// Keys for what changes the service; without any, every key may do so.
    pub admin_keys: Keys,
    /// Names in a Host header that are taken beside those of this machine.
    pub allowed_hosts: AllowedHosts,
    /// Web pages that may call from elsewhere.
    pub cors_origins: Origins,
    /// Certificate and key, if connections are encrypted.
    pub tls: Option<Tls>,
}
