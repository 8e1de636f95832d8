//! What a vocabulary must hold, and the properties of encoding with one that passes.

use proptest::prelude::*;
use tokenizer::{
    ChatError, ChatFormat, Error, MAX_TOKEN_BYTES, MAX_VOCAB_SIZE, Message, NANOCHAT_PATTERN, Role,
    Tokenizer, Vocabulary,
};

const SPECIAL: &str = "<|bos|> <|user_start|> <|user_end|> <|assistant_start|> <|assistant_end|> \
                       <|python_start|> <|python_end|> <|output_start|> <|output_end|>";

fn vocabulary(tokens: &[&str]) -> Vocabulary {
    let bytes = (0..=255).map(|byte| vec![byte]);
    Vocabulary {
        pattern: NANOCHAT_PATTERN.to_owned(),
        ranks: bytes.chain(tokens.iter().map(|token| token.as_bytes().to_vec())).zip(0..).collect(),
        special: SPECIAL.split(' ').map(str::to_owned).zip(1000..).collect(),
        merges: None,
    }
}

/// What is said about the toy vocabulary after one change.
fn refuse(change: impl FnOnce(&mut Vocabulary)) -> Error {
    let mut changed = vocabulary(&["ab"]);
    change(&mut changed);
    Tokenizer::new(changed).unwrap_err()
}

#[test]
fn a_bare_table_of_ranks_is_nanochats() {
    let whole = vocabulary(&["ab"]);
    let bare = Vocabulary::nanochat(whole.ranks.clone());
    assert_eq!(bare.pattern, NANOCHAT_PATTERN);
    assert_eq!(bare.special, SPECIAL.split(' ').map(str::to_owned).zip(257..).collect::<Vec<_>>());
    assert_eq!(bare.merges, None);
    let read = Tokenizer::new(bare).unwrap();
    assert!(ChatFormat::nanochat(&read).unwrap().messages.is_some());
    let mut beyond = whole.ranks;
    beyond[0].1 = u32::MAX;
    let error = Tokenizer::new(Vocabulary::nanochat(beyond)).unwrap_err();
    assert!(matches!(error, Error::IdTooLarge { .. }), "{error}");
}

#[test]
fn a_base_vocabulary_has_the_token_that_begins_a_text_and_no_chat() {
    for names in [&["<|bos|>"][..], &["<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>", "<|reserved_3|>"]]
    {
        let special = names.iter().map(|name| (*name).to_owned()).zip(1000..).collect();
        let base = Tokenizer::new(Vocabulary { special, ..vocabulary(&["ab"]) }).unwrap();
        let format = ChatFormat::nanochat(&base).unwrap();
        assert_eq!((format.bos, &*format.stop_tokens), (1000, &[1000][..]), "{names:?}");
        assert_eq!((format.messages, format.calculator), (None, None), "{names:?}");
        assert_eq!(base.vocab_size(), 1000 + names.len());
        assert!(base.is_special(1000) && !base.is_special(999));
        let messages = [Message { role: Role::User, content: "ab" }];
        assert_eq!(format.render(&base, &messages, None).unwrap_err(), ChatError::NoChatTokens);
        assert_eq!(base.decode(&base.encode("ab <|user_start|>")), "ab <|user_start|>");
    }
    let whole = Tokenizer::new(vocabulary(&["ab"])).unwrap();
    let format = ChatFormat::nanochat(&whole).unwrap();
    assert_eq!(*format.stop_tokens, [format.messages.unwrap().assistant_end, format.bos]);
}

#[test]
fn a_vocabulary_with_a_flaw_is_refused() {
    assert!(matches!(refuse(|v| drop(v.ranks.remove(7))), Error::MissingByte { byte: 7 }));
    assert!(matches!(refuse(|v| v.ranks[5].1 = 6), Error::DuplicateId { id: 6 }));
    assert!(matches!(refuse(|v| v.ranks.push((b"ab".to_vec(), 500))), Error::DuplicateBytes { id: 500 }));
    assert!(matches!(refuse(|v| v.ranks.push((Vec::new(), 500))), Error::EmptyToken { id: 500 }));
    assert!(matches!(
        refuse(|v| v.ranks.push((vec![b'a'; MAX_TOKEN_BYTES + 1], 500))),
        Error::TokenTooLong { id: 500, .. }
    ));
    assert!(matches!(
        refuse(|v| v.ranks.push((b"xy".to_vec(), u32::MAX))),
        Error::IdTooLarge { id: u32::MAX, limit: MAX_VOCAB_SIZE }
    ));
    assert!(matches!(refuse(|v| v.special[0].1 = 65), Error::DuplicateId { id: 65 }));
    assert!(matches!(refuse(|v| v.special[0].1 = v.special[1].1), Error::DuplicateId { id: 1001 }));
    assert!(matches!(
        refuse(|v| v.special.push(("<|bos|>".to_owned(), 1100))),
        Error::DuplicateSpecial { id: 1100 }
    ));
    let format = |change: &dyn Fn(&mut Vocabulary)| {
        let mut changed = vocabulary(&["ab"]);
        change(&mut changed);
        ChatFormat::nanochat(&Tokenizer::new(changed).unwrap())
    };
    assert!(matches!(format(&|v| v.special.clear()), Err(Error::MissingSpecial { name: "<|bos|>" })));
    for at in 0..9 {
        let name = SPECIAL.split(' ').nth(at).unwrap();
        let missing = format(&|v| drop(v.special.remove(at)));
        assert!(matches!(missing, Err(Error::MissingSpecial { name: missing }) if missing == name));
    }
    assert!(matches!(refuse(|v| v.pattern = "[".to_owned()), Error::Pattern(_)));
    assert!(matches!(refuse(|v| v.merges = Some(vec![(1, 2)])), Error::MergeWithoutToken { index: 0, .. }));
    assert!(matches!(
        refuse(|v| v.ranks = vec![(b"a".to_vec(), 0); MAX_VOCAB_SIZE]),
        Error::TooManyTokens { .. }
    ));
    let many_long = |v: &mut Vocabulary| {
        v.ranks.extend((0..20_000_u32).map(|at| {
            let mut bytes = vec![b'a'; MAX_TOKEN_BYTES];
            bytes[..4].copy_from_slice(&at.to_be_bytes());
            (bytes, 2000 + at)
        }));
    };
    assert!(matches!(refuse(many_long), Error::TotalTooLong { .. }));
}

#[test]
fn ids_may_have_gaps_and_further_special_tokens() {
    let mut gapped = vocabulary(&["ab"]);
    gapped.special.push(("<|extra|>".to_owned(), 5000));
    let tokenizer = Tokenizer::new(gapped).unwrap();
    assert_eq!(tokenizer.vocab_size(), 5001);
    assert_eq!(tokenizer.token_bytes(5000), Some("<|extra|>".as_bytes()));
    assert_eq!(tokenizer.token_bytes(256), Some("ab".as_bytes()));
    for missing in [257, 999, 1009, 5001, u32::MAX] {
        assert_eq!(tokenizer.token_bytes(missing), None);
    }
    assert_eq!(tokenizer.decode(&[256, 999, u32::MAX, 65, 1000, 0xff]), "abA<|bos|>\u{fffd}");
}

#[test]
fn a_megabyte_of_one_letter_takes_time_in_proportion() {
    let runs: Vec<String> = (1..=9).map(|power| "a".repeat(1 << power)).collect();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::new(vocabulary(&runs)).unwrap();
    let ids = tokenizer.encode(&"a".repeat(1 << 20));
    assert_eq!(ids, vec![264; (1 << 20) / 512]);
    // The ratio of the work at two sizes is asserted where heap pops can be counted, in `merge`.
    for unit in [" ", "\n", " \n", "!", "1", "'", "'s", "a ", "\u{301}", "é", "\u{a0}"] {
        let text = unit.repeat((1 << 20) / unit.len());
        assert_eq!(tokenizer.decode(&tokenizer.encode(&text)), text);
    }
}

#[test]
fn a_tokenizer_is_shared_between_threads() {
    fn assert_shared<T: Send + Sync>(_: &T) {}
    assert_shared(&Tokenizer::new(vocabulary(&[])).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_decodes_to_itself(text in any::<String>(), repeated in "[ab'\n é]{0,300}") {
        let tokenizer = Tokenizer::new(vocabulary(&["ab", "ba", "\n\n", " a", "aba"])).unwrap();
        for text in [text, repeated] {
            let ids = tokenizer.encode(&text);
            prop_assert!(ids.iter().all(|id| *id < 1000));
            prop_assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}
