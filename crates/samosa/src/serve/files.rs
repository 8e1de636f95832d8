//! How many files the process may open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: models, logs, listeners, other ends.
const OTHERS: u64 = 256;

/// Asks the system for as many as there may be connections. Out of files, nothing could be accepted, and so no idle
/// connection would make room for another.
pub(super) fn allow_for(connections: usize) {
    let wanted = connections as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is as many as one likes.
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    if raised.is_err() || allowed < wanted {
        let files = getrlimit(Resource::Nofile).current;
        tracing::warn!(
            files,
            connections,
            "the process may open too few files for MAX_CONNECTIONS; see `ulimit -n` or LimitNOFILE"
        );
    }
}
