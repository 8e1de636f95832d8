//! A made-up `tokenizer.pkl`: bytes, then words of small letters, each made of shorter ones.

/// Special tokens, which follow the last rank of a plain table.
pub(crate) const SPECIAL: usize = 9;
/// Pairs that a pickler writes at a time.
const BATCH: usize = 1000;

/// The pickle of a dictionary from token bytes to ranks for a vocabulary of `size`, special tokens included.
pub(crate) fn pickle(size: usize) -> Vec<u8> {
    // Protocol 4, an empty dictionary.
    let mut bytes = b"\x80\x04}".to_vec();
    let tokens: Vec<(u32, Vec<u8>)> = (0..).zip(tokens(size - SPECIAL)).collect();
    for batch in tokens.chunks(BATCH) {
        bytes.push(b'(');
        for (rank, token) in batch {
            bytes.extend([b'C', token.len() as u8]);
            bytes.extend(token);
            bytes.push(b'J');
            bytes.extend(rank.to_le_bytes());
        }
        bytes.push(b'u');
    }
    bytes.push(b'.');
    bytes
}

/// Every byte, then every word of two small letters, of three and of four, as far as `count` goes.
fn tokens(count: usize) -> Vec<Vec<u8>> {
    let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    let mut words: Vec<Vec<u8>> = (b'a'..=b'z').map(|letter| vec![letter]).collect();
    while tokens.len() < count {
        let longer = |word: &Vec<u8>| (b'a'..=b'z').map(|letter| [word, &[letter][..]].concat()).collect();
        words = words.iter().flat_map(|word| -> Vec<_> { longer(word) }).collect();
        tokens.extend_from_slice(&words[..words.len().min(count - tokens.len())]);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_vocabulary_reads_back() {
        let file = ::formats::read_tokenizer_pickle("tokenizer.pkl", &pickle(32_768)).unwrap();
        assert_eq!((file.ranks.len(), file.special.len()), (32_768 - SPECIAL, 0));
        assert_eq!(file.ranks[256], (b"aa".to_vec(), 256));
        let tokenizer = ::tokenizer::Tokenizer::new(::tokenizer::Vocabulary::nanochat(file.ranks)).unwrap();
        assert_eq!(tokenizer.special("<|bos|>"), Some(32_768 - SPECIAL as u32));
        assert_eq!(tokenizer.vocab_size(), 32_768);
        assert_eq!(tokenizer.encode("abc").len(), 1);
        assert_eq!(tokenizer.decode(&tokenizer.encode("Some words, 12 x")), "Some words, 12 x");
    }
}
