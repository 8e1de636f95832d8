//! Untrusted bytes to tensors: readers for nanochat checkpoints, tokenizers and their descriptions.
//!
//! This crate answers "what does this file say?" and nothing else. It opens no file, executes nothing that a
//! file names, and does not know what a model is: whether the tensors fit together is for `model`, whether
//! the tokens do is for `tokenizer`.
//!
//! Three promises hold for every input (`tests/it/hostile.rs` and the fuzz targets check them):
//! no panic, no recursion deeper than a constant, and no memory beyond a constant multiple of the file.
//!
//! Where to look next, in reading order: [`LIMITS`] has every bound; [`Error`] every way to fail;
//! [`ByteSource`] is what comes in; [`TensorTable`] and [`Tensor`] are what comes out. `torch` reads `.pt`
//! files of both containers through one pickle machine, `safetensors` the other format; `tokenizer_pickle`,
//! `tokenizer_json` and `meta` read the small files beside a checkpoint.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod limits;

mod error;

mod source;

mod reader;

mod tensor;

mod table;

mod torch;

mod safetensors;

mod json;

mod tokenizer_pickle;

mod tokenizer_json;

mod meta;

#[doc(hidden)]
pub mod fuzz;

pub use error::{
    Error, ErrorKind, JsonFault, PickleFault, SafetensorsFault, TokenizerFault, TorchFault, ZipFault,
};
pub use limits::{LIMITS, Limits};
pub use meta::{Meta, read_meta};
pub use safetensors::read_shard_index;
pub use source::ByteSource;
pub use table::TensorTable;
pub use tensor::{DType, Tensor};
pub use tokenizer_json::read_tokenizer_json;
pub use tokenizer_pickle::{TokenizerFile, read_tokenizer_pickle};
