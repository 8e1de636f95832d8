//! Which paths ask for no key.

use crate::page;

/// Paths that ask for no key, whatever name they are asked by; those of the page ask for none either, but for a name of ours.
pub const PUBLIC: [&str; 4] = ["/health", "/livez", "/readyz", "/metrics"];

/// Whether a path asks for no key.
pub(crate) fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path) || page::has(path)
}
