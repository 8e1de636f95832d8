//! Bytes of generated tokens into whole UTF-8 characters, as they come. Not a decoder of ids: give it
//! [`Tokenizer::token_bytes`](crate::Tokenizer::token_bytes).

/// Holds back the bytes of an unfinished character until the rest of it comes.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) return, joined, is what
/// [`String::from_utf8_lossy`] gives for all the bytes at once, however they were cut.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder {
    /// The start of a character, at most three bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> StreamDecoder {
        StreamDecoder::default()
    }

    /// Takes the next bytes and returns the characters that are now whole.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            rest = after;
            let Some(invalid_len) = error.error_len() else { break };
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[invalid_len..];
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        text
    }

    /// Ends the stream: an unfinished character becomes one U+FFFD. The decoder can start over after it.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_split_emoji_waits_for_its_rest() {
        let mut decoder = StreamDecoder::new();
        let emoji = "🥟".as_bytes();
        assert_eq!(decoder.push(&[b'a', emoji[0]]), "a");
        assert_eq!(decoder.push(&emoji[1..3]), "");
        assert_eq!(decoder.push(&[emoji[3], b'b']), "🥟b");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn an_unfinished_character_is_flushed_at_the_end() {
        let mut decoder = StreamDecoder::new();
        assert_eq!(decoder.push(&"🥟".as_bytes()[..3]), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.push(b"again"), "again");
    }

    #[test]
    fn invalid_bytes_are_replaced_as_soon_as_they_are_known() {
        let mut decoder = StreamDecoder::new();
        assert_eq!(decoder.push(b"\xf0\x9f"), "");
        assert_eq!(decoder.push(b"\xff"), "\u{fffd}\u{fffd}");
        assert_eq!(decoder.push(b"\xed"), "");
        assert_eq!(decoder.push(b"\xa0"), "\u{fffd}\u{fffd}");
        assert_eq!(decoder.push(b"\xc0\x80"), "\u{fffd}\u{fffd}");
    }

    /// Bytes that are often valid, or the start of something valid.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|character| character.to_string().into_bytes()),
            any::<char>().prop_map(|character| {
                let mut bytes = character.to_string().into_bytes();
                bytes.pop();
                bytes
            }),
            proptest::sample::select(vec![0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xa0, 0xf0, 0xf4, 0x90, 0xff])
                .prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_gives_the_text_of_the_whole(bytes in bytes(), lens in proptest::collection::vec(0usize..5, 0..60)) {
            let mut decoder = StreamDecoder::new();
            let mut text = String::new();
            let mut rest = bytes.as_slice();
            for len in lens {
                let (part, after) = rest.split_at(len.min(rest.len()));
                text += &decoder.push(part);
                prop_assert!(decoder.pending.len() <= 3);
                rest = after;
            }
            text += &decoder.push(rest);
            text += &decoder.finish();
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
