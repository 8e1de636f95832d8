//! Why a vocabulary was refused. Encoding and decoding cannot fail; chat errors are in `chat`.

/// What is wrong with a [`Vocabulary`](crate::Vocabulary).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The split pattern is longer than the limit.
    #[error("the split pattern has {bytes} bytes, more than the limit of {limit}")]
    PatternTooLong {
        /// Length of the pattern.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The split pattern is not a regular expression.
    #[error("the split pattern does not compile")]
    Pattern(#[source] Box<fancy_regex::Error>),
    /// More tokens than the limit, ordinary and special together.
    #[error("the vocabulary has {tokens} tokens, more than the limit of {limit}")]
    TooManyTokens {
        /// Number of tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// A token id is over the limit.
    #[error("token id {id} is not below the limit of {limit}")]
    IdTooLarge {
        /// The id.
        id: u32,
        /// The limit.
        limit: usize,
    },
    /// Two tokens have the same id.
    #[error("two tokens have id {id}")]
    DuplicateId {
        /// The id.
        id: u32,
    },
    /// Two ordinary tokens have the same bytes.
    #[error("token id {id} has the same bytes as another token")]
    DuplicateBytes {
        /// The id of the later one.
        id: u32,
    },
    /// A token has no bytes.
    #[error("token id {id} is empty")]
    EmptyToken {
        /// The id.
        id: u32,
    },
    /// A token has more bytes than the limit.
    #[error("token id {id} has {bytes} bytes, more than the limit of {limit}")]
    TokenTooLong {
        /// The id.
        id: u32,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// All tokens together have more bytes than the limit.
    #[error("the tokens have {bytes} bytes together, more than the limit of {limit}")]
    TotalTooLong {
        /// Their total length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// One of the 256 single bytes is no token, so some text could not be encoded.
    #[error("no token for the single byte {byte:#04x}")]
    MissingByte {
        /// The byte.
        byte: u8,
    },
    /// A token of the chat template is missing.
    #[error("no special token {name}")]
    MissingSpecial {
        /// Its literal text.
        name: &'static str,
    },
    /// A special token is named twice.
    #[error("the special token with id {id} has the name of another one")]
    DuplicateSpecial {
        /// The id of the later one.
        id: u32,
    },
    /// More merges than the limit.
    #[error("the vocabulary has {merges} merges, more than the limit of {limit}")]
    TooManyMerges {
        /// Number of merges.
        merges: usize,
        /// The limit.
        limit: usize,
    },
    /// A merge names an id that is no ordinary token, or its two tokens joined are none.
    #[error("merge {index} joins {left} and {right}, which does not give a token")]
    MergeWithoutToken {
        /// Place in the list of merges.
        index: usize,
        /// Left id.
        left: u32,
        /// Right id.
        right: u32,
    },
    /// A merge is listed twice.
    #[error("merge {index} is listed twice")]
    DuplicateMerge {
        /// Place of the second one.
        index: usize,
    },
}
