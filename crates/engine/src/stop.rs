//! Texts that end an answer. What might become one is held back, and exactly that: as much of the end of the text as
//! one of them begins with.
//!
//! The text is looked at character by character, so how it was cut into tokens makes no difference.

/// Looks for the first of some texts.
#[derive(Debug)]
pub(crate) struct StopTexts {
    texts: Vec<String>,
    held: String,
    found: bool,
}

impl StopTexts {
    /// Looks for these. Empty ones are never found.
    pub(crate) fn new(texts: Vec<String>) -> Self {
        let texts = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Self { texts, held: String::new(), found: false }
    }

    /// Whether one was found. All before it was given back by then, and nothing after it will be.
    pub(crate) fn found(&self) -> bool {
        self.found
    }

    /// Takes the next text, and gives back what is certainly part of the answer.
    pub(crate) fn push(&mut self, text: String) -> String {
        if self.texts.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(self.held.len() + text.len());
        for character in text.chars() {
            if self.found {
                break;
            }
            self.held.push(character);
            // Of several that end here the longest began first.
            let ending = self.texts.iter().filter(|text| self.held.ends_with(text.as_str()));
            if let Some(length) = ending.map(String::len).max() {
                self.held.truncate(self.held.len() - length);
                out.push_str(&self.held);
                self.held.clear();
                self.found = true;
            } else {
                let certain = self.certain();
                out.extend(self.held.drain(..certain));
            }
        }
        out
    }

    /// The text is at its end: what was held back is part of the answer.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of what is held that no text can begin in.
    fn certain(&self) -> usize {
        let begins = |at: &usize| self.texts.iter().any(|text| text.starts_with(&self.held[*at..]));
        let places = self.held.char_indices().map(|(at, _)| at);
        places.chain([self.held.len()]).find(begins).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each push gives back, then the end, and whether a text was found.
    fn follow(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let mut texts = StopTexts::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let given = pieces.iter().map(|&piece| texts.push(piece.to_owned())).collect();
        (given, texts.finish(), texts.found())
    }

    /// The text that ends an answer is marked by an end that is a dot.
    fn assert_follows(stops: &[&str], pieces: &[&str], given: &[&str], end: &str) {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        let (end, found) = if end == "." { ("", true) } else { (end, false) };
        assert_eq!(follow(stops, pieces), (given, end.to_owned(), found), "{stops:?} in {pieces:?}");
    }

    #[test]
    fn only_what_may_become_a_stop_text_is_held_back() {
        assert_follows(&["END"], &["a", "bE", "N", "x", "E"], &["a", "b", "", "ENx", ""], "E");
        assert_follows(&["END"], &["abEN", "D more", "x"], &["ab", "", ""], ".");
        assert_follows(&["\n\n"], &["a\n", "b\n", "\nc"], &["a", "\nb", ""], ".");
        assert_follows(&[], &["END"], &["END"], "");
        assert_follows(&[""], &["END"], &["END"], "");
    }

    #[test]
    fn a_false_start_does_not_hide_a_true_one() {
        assert_follows(&["aab"], &["aaab"], &["a"], ".");
        assert_follows(&["abac"], &["ababac"], &["ab"], ".");
        assert_follows(&["éé"], &["é", "xé", "é"], &["", "éx", ""], ".");
    }

    #[test]
    fn the_text_that_is_complete_first_counts_and_of_those_the_longest() {
        assert_follows(&["bcd", "c"], &["abcd"], &["ab"], ".");
        assert_follows(&["c", "bc"], &["abcd"], &["a"], ".");
    }

    proptest! {
        #[test]
        fn how_a_text_is_cut_makes_no_difference(
            text in "[abé]{0,40}",
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
            cuts in prop::collection::vec(0usize..40, 0..8),
        ) {
            let mut places: Vec<usize> = cuts.into_iter().filter(|&at| text.is_char_boundary(at.min(text.len())))
                .map(|at| at.min(text.len())).chain([0, text.len()]).collect();
            places.sort_unstable();
            let pieces: Vec<&str> = places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let joined = |(given, end, found): (Vec<String>, String, bool)| (given.concat() + &end, found);
            let (got, found) = joined(follow(&stops, &pieces));
            // The first place where a text ends, by looking at every start of the text.
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            let wanted = ends.into_iter().find_map(|end| {
                let of = |stop: &&&str| !stop.is_empty() && text[..end].ends_with(**stop);
                stops.iter().filter(of).map(|stop| stop.len()).max().map(|length| &text[..end - length])
            });
            prop_assert_eq!((got.as_str(), found), (wanted.unwrap_or(&text), wanted.is_some()));
        }
    }
}
