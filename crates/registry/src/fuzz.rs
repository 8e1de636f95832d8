//! Entry points for fuzzing: each takes any bytes and must return, whatever they are.
//!
//! The targets in `fuzz/` and the replayed corpus (`tests/it/corpus.rs`) call these and nothing else.

use tokenizer::Tokenizer;

use crate::models_file::ModelsFile;
use crate::open::vocabulary;

/// Reads a `models.toml`; what is wrong has a line.
pub fn fuzz_models_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ModelsFile::parse(text) {
        Ok(file) => {
            for entry in &file.models {
                assert!(file.entry(entry.tag.as_str()).is_some(), "each entry is found by its tag");
            }
        }
        Err(reason) => assert!(reason.starts_with("line "), "{reason}"),
    }
}

/// Builds a tokenizer from a file in any format, and has it encode and decode.
pub fn fuzz_vocabulary(bytes: &[u8]) {
    const TEXT: &str = "Hello, <|bos|> chaat! १२ 🥟\r\n  x = 3.14";
    for read in [formats::read_tokenizer_pickle, formats::read_tokenizer_json] {
        let Ok(file) = read("fuzz", bytes) else { continue };
        let Ok(tokenizer) = Tokenizer::new(vocabulary(file)) else { continue };
        let ids = tokenizer.encode(TEXT);
        assert_eq!(tokenizer.decode(&ids), TEXT, "a tokenizer that has every byte gives a text back");
    }
}
