//! Which characters are letters, numbers and white space, as the regex engines have it.
//!
//! A two-stage table built from the very Unicode tables of `regex-syntax`, so that the scanner and a regex
//! cannot disagree on a character. Not the pattern: that is `scanner`.

use regex_syntax::hir::{Class as HirClass, HirKind};
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

const BLOCK: usize = 256;
const N_BLOCKS: usize = 0x11_0000 / BLOCK;

/// The class of a character. No character is in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CharClass {
    /// In none of the others: punctuation, symbols, marks, controls, unassigned.
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s` but for the two below.
    Space,
    /// CR or LF, which are in `\s` too.
    Newline,
}

impl CharClass {
    pub(crate) fn is_space(self) -> bool {
        matches!(self, CharClass::Space | CharClass::Newline)
    }
}

/// The class of every character.
#[derive(Debug)]
pub(crate) struct CharClasses {
    /// Which of `blocks` has the characters of a block of 256.
    index: [u16; N_BLOCKS],
    /// The distinct blocks; block 0 is that of Latin 1.
    blocks: Vec<[CharClass; BLOCK]>,
}

impl CharClasses {
    /// The one table, built on first use.
    pub(crate) fn get() -> &'static CharClasses {
        static CLASSES: OnceLock<CharClasses> = OnceLock::new();
        CLASSES.get_or_init(CharClasses::build)
    }

    #[inline]
    pub(crate) fn class(&self, character: char) -> CharClass {
        let code = character as usize;
        self.blocks[self.index[code / BLOCK] as usize][code % BLOCK]
    }

    fn build() -> CharClasses {
        let mut all = vec![CharClass::Other; N_BLOCKS * BLOCK];
        for (pattern, class) in
            [(r"\p{L}", CharClass::Letter), (r"\p{N}", CharClass::Number), (r"\s", CharClass::Space)]
        {
            for (first, last) in ranges(pattern) {
                all[first as usize..=last as usize].fill(class);
            }
        }
        all['\r' as usize] = CharClass::Newline;
        all['\n' as usize] = CharClass::Newline;

        let mut index = [0; N_BLOCKS];
        let mut blocks = Vec::new();
        let mut seen = FxHashMap::default();
        for (entry, block) in index.iter_mut().zip(all.as_chunks::<BLOCK>().0) {
            *entry = *seen.entry(*block).or_insert_with(|| {
                blocks.push(*block);
                blocks.len() as u16 - 1
            });
        }
        CharClasses { index, blocks }
    }
}

/// The ranges of characters, first and last, that a class pattern matches.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind);
    let Ok(HirKind::Class(HirClass::Unicode(class))) = hir else {
        unreachable!("{pattern} is a Unicode class in every build of regex-syntax with its default features");
    };
    class.iter().map(|range| (range.start(), range.end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_the_class_the_regexes_give_it() {
        let patterns =
            [(r"\p{L}", CharClass::Letter), (r"\p{N}", CharClass::Number), (r"\s", CharClass::Space)]
                .map(|(pattern, class)| (fancy_regex::Regex::new(pattern).unwrap(), class));
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let text = character.encode_utf8(&mut buffer);
            let matching: Vec<CharClass> = patterns
                .iter()
                .filter(|(regex, _)| regex.is_match(text).unwrap())
                .map(|(_, class)| *class)
                .collect();
            let expected = match (character, matching.as_slice()) {
                ('\r' | '\n', [CharClass::Space]) => CharClass::Newline,
                (_, [class]) => *class,
                (_, []) => CharClass::Other,
                _ => panic!("{character:?} is in {matching:?}"),
            };
            assert_eq!(CharClasses::get().class(character), expected, "{character:?}");
        }
    }
}
