//! What the JSON readers share: objects in file order, without ever building a tree of values.
//!
//! Typed visitors keep memory proportional to the file and recursion constant; `serde_json` skips what they do
//! not ask for iteratively.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::limits::LIMITS;

/// The text after a UTF-8 byte order mark, which some editors put at the start of a file and JSON does not allow.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A JSON object as pairs in file order; duplicate keys are kept for the caller to judge. At most
/// `LIMITS.tokens` pairs, which no other table of this crate exceeds.
#[derive(Debug)]
pub(crate) struct Pairs<T>(pub(crate) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
    type Value = Pairs<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            if pairs.len() >= LIMITS.tokens {
                return Err(A::Error::custom("too many entries"));
            }
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}
