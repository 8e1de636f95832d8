//! The smallest tokenizer there is: a token for every byte, and the nine of the chat template after them.

use std::sync::Arc;

use engine::Request;
use guides::Calculator;
use tokenizer::{ChatFormat, NANOCHAT_PATTERN, Tokenizer, Vocabulary};

const SPECIAL: [&str; 9] = [
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
];

/// A token for every byte, with the byte as its id.
pub(crate) fn bytes() -> Arc<Tokenizer> {
    let vocabulary = Vocabulary {
        pattern: NANOCHAT_PATTERN.to_owned(),
        ranks: (0..=u8::MAX).map(|byte| (vec![byte], u32::from(byte))).collect(),
        special: SPECIAL.iter().zip(256..).map(|(name, id)| ((*name).to_owned(), id)).collect(),
        merges: None,
    };
    Arc::new(Tokenizer::new(vocabulary).unwrap())
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
