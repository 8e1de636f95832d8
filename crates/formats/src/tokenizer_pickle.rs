//! `tokenizer.pkl`: a pickled `tiktoken.Encoding`, or a dictionary from bytes to ranks.
//!
//! What is said here is what the file says; whether ranks form a tokenizer is for the tokenizer crate.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, TokenizerFault, short};
use crate::limits::LIMITS;
use crate::reader::{Reader, widen};
use crate::table::check_small;
use crate::torch::pickle::{self, Global, PickleDialect, PickleTree, PickleValue};

/// What a tokenizer file says, before the tokenizer crate checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerFile {
    /// The regular expression that splits text before merging; none in a bare table of ranks, which has no special
    /// tokens either.
    pub pattern: Option<String>,
    /// Ordinary tokens and their ids, in file order; each token once. Ids may have gaps or repeat.
    pub ranks: Vec<(Vec<u8>, u32)>,
    /// Special tokens and their ids, in file order; each token once.
    pub special: Vec<(String, u32)>,
    /// The pairs of ids to merge, first priority first; none where the id of a token is its rank.
    pub merges: Option<Vec<(u32, u32)>>,
}

/// Reads a pickled tokenizer of protocol 2 to 5.
///
/// # Errors
/// `Pickle` for what no tokenizer contains, `Tokenizer` for what is not one, `TooLarge`, `Truncated`.
pub fn read_tokenizer_pickle(file_name: &str, bytes: &[u8]) -> Result<TokenizerFile, Error> {
    read(bytes).map_err(|error| error.in_file(file_name))
}

fn read(bytes: &[u8]) -> Result<TokenizerFile, Error> {
    check_small(bytes, "tokenizer_bytes", LIMITS.tokenizer_bytes)?;
    let tree = pickle::parse(&mut Reader::new(bytes, Some(0)), PickleDialect::Tokenizer)?;
    match tree.object(tree.root(), Global::Encoding) {
        Some(state) => encoding(&tree, state),
        None => plain(&tree),
    }
}

/// The state of a `tiktoken.Encoding`: a dictionary, or the name of one that the package knows.
fn encoding(tree: &PickleTree<'_>, state: PickleValue) -> Result<TokenizerFile, Error> {
    if let Some(name) = tree.text(state)? {
        return Err(TokenizerFault::Registered(short(name)).into());
    }
    let state = tree.dictionary(state).ok_or(TokenizerFault::NotATokenizer)?;
    let field = |name: &'static str| {
        let found = state.iter().find(|(key, _)| tree.is_text(*key, name));
        found.map(|(_, value)| *value).ok_or(TokenizerFault::Missing(name))
    };
    let pattern = tree.text(field("pat_str")?)?.ok_or(TokenizerFault::Missing("pat_str"))?;
    let dictionary = |name| tree.dictionary(field(name)?).ok_or(TokenizerFault::Missing(name));
    let ranks = ranks(tree, dictionary("mergeable_ranks")?)?;
    let special = dictionary("special_tokens")?.iter().map(|(name, id)| {
        let name = tree.text(*name)?.ok_or(TokenizerFault::Token)?;
        Ok((name, token_id(*id)?))
    });
    let special = unique(special.collect::<Result<Vec<_>, Error>>()?)?;
    let special = special.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
    Ok(TokenizerFile { pattern: Some(pattern.to_owned()), ranks, special, merges: None })
}

/// A dictionary from bytes to ranks, which says no more.
fn plain(tree: &PickleTree<'_>) -> Result<TokenizerFile, Error> {
    let pairs = tree.dictionary(tree.root()).ok_or(TokenizerFault::NotATokenizer)?;
    let ranks = ranks(tree, pairs)?;
    if ranks.is_empty() {
        return Err(TokenizerFault::NotATokenizer.into());
    }
    Ok(TokenizerFile { ranks, ..TokenizerFile::default() })
}

fn ranks(tree: &PickleTree<'_>, pairs: &[(PickleValue, PickleValue)]) -> Result<Vec<(Vec<u8>, u32)>, Error> {
    check_tokens(pairs.len())?;
    let mut ranks = Vec::with_capacity(pairs.len());
    // Distinct tokens occupy distinct bytes of the file. A repeated one is refused before it is copied: three
    // bytes can refer back to a token of any length.
    let mut seen = HashSet::with_capacity(pairs.len());
    for (token, rank) in pairs {
        let token = tree.bytes(*token).ok_or(TokenizerFault::Token)?;
        if token.is_empty() {
            return Err(TokenizerFault::Token.into());
        }
        let rank = token_id(*rank)?;
        if !seen.insert(token.clone()) {
            return Err(TokenizerFault::DuplicateToken.into());
        }
        ranks.push((token.into_owned(), rank));
    }
    Ok(ranks)
}

fn token_id(value: PickleValue) -> Result<u32, Error> {
    match value {
        PickleValue::Integer(id) => u32::try_from(id).map_err(|_| TokenizerFault::Id.into()),
        _ => Err(TokenizerFault::Id.into()),
    }
}

/// Refuses a table that has more entries than any tokenizer.
pub(crate) fn check_tokens(count: usize) -> Result<(), Error> {
    if count > LIMITS.tokens {
        return Err(ErrorKind::too_large("tokens", widen(count), widen(LIMITS.tokens)).into());
    }
    Ok(())
}

/// The pairs, unless a token occurs twice.
pub(crate) fn unique<K: std::hash::Hash + Eq, V>(pairs: Vec<(K, V)>) -> Result<Vec<(K, V)>, Error> {
    check_tokens(pairs.len())?;
    let mut seen = HashSet::with_capacity(pairs.len());
    if pairs.iter().all(|(token, _)| seen.insert(token)) {
        return Ok(pairs);
    }
    Err(TokenizerFault::DuplicateToken.into())
}
