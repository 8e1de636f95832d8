//! Downloads over real sockets, from servers that behave and from servers that do not.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

/// Asserts which error it is.
macro_rules! assert_error {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    }};
}

mod faults;
mod pulls;
mod refusals;
mod resume;
mod stores;
mod support;
