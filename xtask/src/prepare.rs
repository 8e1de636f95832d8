//! `cargo xtask prepare`: what the checks need beside Rust, fetched and installed, so that no check waits for the network.
//!
//! `ci` runs it beside its first steps. Each check still readies what it needs and says what is missing: what failed here is
//! tried again there.

use crate::{book, clients, contract, observe, page};

/// Does all of it, and fails if anything did.
pub(crate) fn run() -> anyhow::Result<()> {
    let parts: [fn() -> anyhow::Result<()>; 5] =
        [|| contract::ready().map(drop), clients::ready, page::ready, book::ready, observe::ready];
    let outcomes: Vec<_> = parts.iter().map(|ready| ready()).collect();
    outcomes.into_iter().collect()
}
