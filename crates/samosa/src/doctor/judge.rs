//! From facts to findings. Nothing here reads anything but its arguments, so that machines and settings can be made up.

mod machine;
mod model;
mod settings;
mod sources;

pub(super) use self::machine::machine;
pub(super) use self::model::model;
pub(super) use self::settings::settings;
pub(super) use self::sources::sources;

use super::finding::{Cost, Finding};

/// What makes a server slower, the dearest first.
pub(super) fn costs<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<&'a Cost> {
    let mut costs: Vec<&Cost> = findings.filter_map(|finding| finding.cost.as_ref()).collect();
    costs.sort_by(|a, b| b.times.total_cmp(&a.times));
    costs
}

/// `1 core`, `2 cores`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
