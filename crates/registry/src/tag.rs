//! Names of models. A tag can be part of a path without meaning anything to it.

use std::fmt;

/// Longest tag, in bytes.
const MAX_LENGTH: usize = 100;

/// A name that matches `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag(String);

impl Tag {
    /// Checks a name.
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let first = name.bytes().next()?.is_ascii_alphanumeric();
        (first && name.len() <= MAX_LENGTH && name.bytes().all(allowed)).then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_to_a_path_is_a_tag() {
        for name in ["d20", "samosa-mini", "d24-sft-r6", "A.b_c-9", &"x".repeat(100)] {
            assert!(Tag::new(name).is_some(), "{name}");
        }
        for name in
            ["", ".", "..", "../d20", "a/b", "a\\b", ".hidden", "-flag", "a b", "ä", "a\0", &"x".repeat(101)]
        {
            assert!(Tag::new(name).is_none(), "{name:?}");
        }
    }
}
