//! The model inside the binary: small, so that the server answers before anybody has weights.

use crate::Tag;

/// Its tag.
pub const TAG: &str = "samosa-mini";

/// A torch checkpoint, as nanochat saves it.
pub(crate) static WEIGHTS: &[u8] = include_bytes!("../samosa-mini/model_002384.pt");
/// Its sizes.
pub(crate) static META: &[u8] = include_bytes!("../samosa-mini/meta_002384.json");
/// A pickled tokenizer, as nanochat saves it.
pub(crate) static TOKENIZER: &[u8] = include_bytes!("../samosa-mini/tokenizer/tokenizer.pkl");

/// Its tag, checked.
pub fn tag() -> Tag {
    Tag::new(TAG).expect("the built-in model's name is a tag")
}

/// Its files by name.
pub(crate) fn files() -> [(&'static str, &'static [u8]); 3] {
    [("model_002384.pt", WEIGHTS), ("meta_002384.json", META), ("tokenizer.pkl", TOKENIZER)]
}
