//! The keys that callers may use: hashed, compared in constant time, and exchanged while the service runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// Hash of a key.
pub(crate) type KeyHash = [u8; 32];

/// A set of keys. Clones are handles on the same set: whoever replaces it replaces it for all of them, from the next
/// request on. No key at all lets nobody in.
#[derive(Clone, Default)]
pub struct Keys(Arc<ArcSwap<Vec<KeyHash>>>);

impl Keys {
    /// From one or more keys separated by commas or lines; spaces around them and empty ones do not count.
    pub fn parse(text: &str) -> Self {
        let keys = text.split([',', '\n']).map(str::trim).filter(|key| !key.is_empty());
        Self::of(keys.map(|key| hash(key.as_bytes())))
    }

    fn of(hashes: impl Iterator<Item = KeyHash>) -> Self {
        let mut distinct: Vec<KeyHash> = hashes.collect();
        distinct.sort_unstable();
        distinct.dedup();
        Self(Arc::new(ArcSwap::from_pointee(distinct)))
    }

    /// A new set of the keys of both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::of(self.0.load().iter().chain(other.0.load().iter()).copied())
    }

    /// Takes the keys of `other` in place of those there are. Returns whether that changed anything.
    pub fn replace(&self, other: &Self) -> bool {
        let (old, new) = (self.0.load_full(), other.0.load_full());
        let changed = old != new;
        self.0.store(new);
        changed
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.load().len()
    }

    /// Whether some key is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        let other = other.0.load();
        self.0.load().iter().any(|key| other.contains(key))
    }

    /// Whether a key with this hash is among them, in a time that depends on neither.
    pub(crate) fn hold(&self, hash: &KeyHash) -> Choice {
        self.0.load().iter().fold(Choice::from(0), |found, known| found | known.ct_eq(hash))
    }
}

/// The hash of a key, which is all that is ever kept of it.
pub(crate) fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(keys: &Keys, key: &str) -> bool {
        keys.hold(&hash(key.as_bytes())).into()
    }

    #[test]
    fn any_of_several_keys_is_allowed_and_nothing_else() {
        let keys = Keys::parse("old-key, new-key\r\n,old-key");
        assert!(has(&keys, "old-key") && has(&keys, "new-key"));
        for wrong in ["", "old-key,", "OLD-KEY", " old-key", "old-key, new-key", "\r"] {
            assert!(!has(&keys, wrong), "{wrong:?}");
        }
        assert!(Keys::parse(" , ").is_empty() && !has(&Keys::parse(""), ""));
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn all_handles_see_a_replacement_and_sets_are_joined_and_compared() {
        let keys = Keys::parse("a,b");
        let handle = keys.clone();
        assert!(keys.replace(&Keys::parse("b,c")) && !has(&handle, "a") && has(&handle, "c"));
        assert!(!keys.replace(&Keys::parse("c, b")), "the same keys in another order");
        assert!(keys.overlaps(&Keys::parse("c,d")) && !keys.overlaps(&Keys::parse("a")));
        assert_eq!(keys.with(&Keys::parse("c,d")).len(), 3);
        assert_eq!(keys.len(), 2, "the set itself stays");
    }
}
