//! The smallest tokenizer there is: a token for every byte, and the nine of the chat template after them.

use std::sync::Arc;

use engine::Request;
use guides::Calculator;
use tokenizer::{ChatFormat, Tokenizer, Vocabulary};

/// A token for every byte, with the byte as its id.
pub(crate) fn bytes() -> Arc<Tokenizer> {
    let ranks = (0..=u8::MAX).map(|byte| (vec![byte], u32::from(byte))).collect();
    Arc::new(Tokenizer::new(Vocabulary::nanochat(ranks)).unwrap())
}

/// nanochat's chat format with these tokens.
pub(crate) fn format() -> ChatFormat {
    ChatFormat::nanochat(&bytes()).unwrap()
}

/// A request as a server makes it: its answer ends at the format's stop tokens, and has the calculator's results in it.
pub(crate) fn chat(request: Request) -> Request {
    let ChatFormat { calculator, stop_tokens, .. } = format();
    request.ending_at(stop_tokens).guided(Box::new(Calculator::new(bytes(), calculator.unwrap())))
}
