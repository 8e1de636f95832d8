//! Byte-pair merges: the bytes of one piece into token ids.
//!
//! One table from pairs of ids to what they merge into serves both kinds of vocabulary. For tiktoken's kind it
//! holds every way to cut a token into two tokens, which is exact: all parts of a piece are tokens at all
//! times, so "the rank of the joined bytes" is a function of the two ids.
//!
//! A short piece is merged by scanning its pairs for the best one; a long one by a heap of pairs, O(n log n).
//! The table takes any ranks and any list of merges: files come from anywhere, and hold tokens that no merges
//! lead to. The `bpe` crate is linear, but made for the ranks of a trained vocabulary and not for Hugging Face's
//! lists; the heap is short, and has the order that both references define.

use crate::Error;
use rustc_hash::FxHashMap;
use std::{cmp::Reverse, collections::BinaryHeap};

/// Pieces up to this length are merged by scanning; both ways give the same ids.
const SCAN_BYTES: usize = 96;

/// Positions in a piece are `u32`; nothing near this length reaches a server, and a longer piece is cut.
const MAX_PIECE_BYTES: usize = 1 << 31;

/// The list of merges has at most this many entries.
const MAX_MERGES: usize = 1 << 21;

/// Packs a merge as priority (high half, lower is earlier) and resulting id (low half).
type Merge = u64;

/// No merge; after every real one.
const NO_MERGE: Merge = u64::MAX;

/// The end of the list of parts.
const NONE: u32 = u32::MAX;

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn high(packed: u64) -> u32 {
    (packed >> 32) as u32
}

fn low(packed: u64) -> u32 {
    packed as u32
}

/// The merge table of a vocabulary.
#[derive(Debug)]
pub(crate) struct Merger {
    /// Id of each single byte.
    byte_ids: [u32; 256],
    merges: FxHashMap<u64, Merge>,
    /// tiktoken's kind looks a whole piece up before merging; empty for Hugging Face's.
    whole: FxHashMap<Box<[u8]>, u32>,
    max_whole_bytes: usize,
}

/// Buffers that one `encode` call reuses from piece to piece.
#[derive(Debug, Default)]
pub(crate) struct MergeScratch {
    parts: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
}

/// One part of a piece: a token, its place in the list of parts, and how it merges with the part after it.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    previous: u32,
    next: u32,
    merge: Merge,
}

impl Merger {
    /// tiktoken's kind: the priority of a pair is the id of its joined bytes.
    pub(crate) fn from_ranks(ranks: Vec<(Vec<u8>, u32)>) -> Result<Merger, Error> {
        let byte_ids = byte_ids(&ranks);
        let max_whole_bytes = ranks.iter().map(|(bytes, _)| bytes.len()).max().unwrap_or(0);
        let whole: FxHashMap<Box<[u8]>, u32> =
            ranks.into_iter().map(|(bytes, id)| (bytes.into_boxed_slice(), id)).collect();
        let mut merges = FxHashMap::default();
        for (bytes, id) in &whole {
            for cut in 1..bytes.len() {
                let (left, right) = bytes.split_at(cut);
                if let (Some(left), Some(right)) = (whole.get(left), whole.get(right)) {
                    merges.insert(pack(*left, *right), pack(*id, *id));
                }
            }
            if merges.len() > MAX_MERGES {
                return Err(Error::TooManyMerges { merges: merges.len(), limit: MAX_MERGES });
            }
        }
        Ok(Merger { byte_ids, merges, whole, max_whole_bytes })
    }

    /// Hugging Face's kind: the priority of a pair is its place in the list.
    pub(crate) fn from_merges(ranks: &[(Vec<u8>, u32)], pairs: &[(u32, u32)]) -> Result<Merger, Error> {
        if pairs.len() > MAX_MERGES {
            return Err(Error::TooManyMerges { merges: pairs.len(), limit: MAX_MERGES });
        }
        let ids: FxHashMap<&[u8], u32> = ranks.iter().map(|(bytes, id)| (bytes.as_slice(), *id)).collect();
        let bytes_of: FxHashMap<u32, &[u8]> =
            ranks.iter().map(|(bytes, id)| (*id, bytes.as_slice())).collect();
        let mut merges = FxHashMap::default();
        for (index, (left, right)) in pairs.iter().enumerate() {
            let joined = bytes_of.get(left).zip(bytes_of.get(right)).map(|(a, b)| [*a, *b].concat());
            let Some(id) = joined.and_then(|joined| ids.get(joined.as_slice()).copied()) else {
                return Err(Error::MergeWithoutToken { index, left: *left, right: *right });
            };
            if merges.insert(pack(*left, *right), pack(index as u32, id)).is_some() {
                return Err(Error::DuplicateMerge { index });
            }
        }
        Ok(Merger { byte_ids: byte_ids(ranks), merges, whole: FxHashMap::default(), max_whole_bytes: 0 })
    }

    /// Appends the ids of one piece to `ids`.
    pub(crate) fn encode(&self, piece: &[u8], scratch: &mut MergeScratch, ids: &mut Vec<u32>) {
        if piece.len() <= self.max_whole_bytes
            && let Some(id) = self.whole.get(piece)
        {
            ids.push(*id);
        } else if piece.len() <= SCAN_BYTES {
            self.merge_by_scan(piece, scratch, ids);
        } else {
            for part in piece.chunks(MAX_PIECE_BYTES) {
                self.merge_by_heap(part, scratch, ids);
            }
        }
    }

    fn merge(&self, left: u32, right: u32) -> Merge {
        self.merges.get(&pack(left, right)).copied().unwrap_or(NO_MERGE)
    }

    /// Merges by looking through all pairs for the best each time: quadratic, and the fastest while short.
    fn merge_by_scan(&self, piece: &[u8], scratch: &mut MergeScratch, ids: &mut Vec<u32>) {
        let parts = &mut scratch.parts;
        self.start_parts(piece, parts);
        // The first of equal priorities is the leftmost.
        while let Some((at, best)) =
            parts.iter().map(|part| part.merge).enumerate().min_by_key(|(_, merge)| high(*merge))
            && best != NO_MERGE
        {
            parts.remove(at + 1);
            parts[at].id = low(best);
            parts[at].merge = parts.get(at + 1).map_or(NO_MERGE, |right| self.merge(low(best), right.id));
            if at > 0 {
                parts[at - 1].merge = self.merge(parts[at - 1].id, low(best));
            }
        }
        ids.extend(parts.iter().map(|part| part.id));
    }

    /// Merges by a heap of (priority, place) over a linked list of parts. Returns the number of heap pops.
    ///
    /// A part that was merged into its left neighbour, or whose pair has changed, leaves its old entry in the
    /// heap. Such an entry is told by its priority: it is not the one that its place has now. Each merge adds at
    /// most two entries, so there are fewer than 3n in all.
    fn merge_by_heap(&self, piece: &[u8], scratch: &mut MergeScratch, ids: &mut Vec<u32>) -> usize {
        let MergeScratch { parts, heap } = scratch;
        self.start_parts(piece, parts);
        let entry = |at: usize, merge: Merge| Reverse(pack(high(merge), at as u32));
        heap.clear();
        heap.extend(
            parts.iter().enumerate().filter(|(_, p)| p.merge != NO_MERGE).map(|(at, p)| entry(at, p.merge)),
        );

        let mut n_pops = 0;
        while let Some(Reverse(popped)) = heap.pop() {
            n_pops += 1;
            let at = low(popped) as usize;
            let part = parts[at];
            if part.merge == NO_MERGE || high(part.merge) != high(popped) {
                continue;
            }
            let id = low(part.merge);
            // A part that has a merge has a part after it.
            let gone = part.next as usize;
            let next = parts[gone].next;
            parts[gone].merge = NO_MERGE;
            let merge = if next == NONE { NO_MERGE } else { self.merge(id, parts[next as usize].id) };
            parts[at] = Symbol { id, previous: part.previous, next, merge };
            if merge != NO_MERGE {
                heap.push(entry(at, merge));
            }
            if next != NONE {
                parts[next as usize].previous = at as u32;
            }
            if part.previous != NONE {
                let left = part.previous as usize;
                parts[left].merge = self.merge(parts[left].id, id);
                if parts[left].merge != NO_MERGE {
                    heap.push(entry(left, parts[left].merge));
                }
            }
        }

        let mut at = 0;
        while at != NONE {
            ids.push(parts[at as usize].id);
            at = parts[at as usize].next;
        }
        n_pops
    }

    /// Single bytes, linked in order, each with its merge with the byte after it.
    fn start_parts(&self, piece: &[u8], parts: &mut Vec<Symbol>) {
        parts.clear();
        parts.extend(piece.iter().enumerate().map(|(at, byte)| {
            let id = self.byte_ids[*byte as usize];
            let right = piece.get(at + 1).map(|byte| self.byte_ids[*byte as usize]);
            Symbol {
                id,
                previous: (at as u32).wrapping_sub(1),
                next: if right.is_some() { at as u32 + 1 } else { NONE },
                merge: right.map_or(NO_MERGE, |right| self.merge(id, right)),
            }
        }));
    }
}

/// The id of each single byte; the vocabulary was checked to have them all.
fn byte_ids(ranks: &[(Vec<u8>, u32)]) -> [u32; 256] {
    let mut ids = [0; 256];
    for (bytes, id) in ranks {
        if let [byte] = bytes.as_slice() {
            ids[*byte as usize] = *id;
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All single bytes, then these.
    fn ranks(tokens: &[&str]) -> Vec<(Vec<u8>, u32)> {
        let bytes = (0..=255).map(|byte| vec![byte]);
        bytes.chain(tokens.iter().map(|token| token.as_bytes().to_vec())).zip(0..).collect()
    }

    /// The definition, word for word: the naive twin of both ways to merge.
    fn naive(ranks: &[(Vec<u8>, u32)], piece: &[u8]) -> Vec<u32> {
        let rank = |bytes: &[u8]| ranks.iter().find(|(token, _)| token == bytes).map(|(_, id)| *id);
        if let Some(id) = rank(piece) {
            return vec![id];
        }
        let mut parts: Vec<Vec<u8>> = piece.iter().map(|byte| vec![*byte]).collect();
        loop {
            let joined = |at: usize| rank(&[parts[at].as_slice(), parts[at + 1].as_slice()].concat());
            let pairs = 0..parts.len().saturating_sub(1);
            let Some((_, at)) = pairs.filter_map(|at| joined(at).map(|id| (id, at))).min() else { break };
            let right = parts.remove(at + 1);
            parts[at].extend(right);
        }
        parts.iter().map(|part| rank(part).unwrap()).collect()
    }

    fn by_scan(merger: &Merger, piece: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        merger.merge_by_scan(piece, &mut MergeScratch::default(), &mut ids);
        ids
    }

    fn by_heap(merger: &Merger, piece: &[u8]) -> (Vec<u32>, usize) {
        let mut ids = Vec::new();
        let n_pops = merger.merge_by_heap(piece, &mut MergeScratch::default(), &mut ids);
        (ids, n_pops)
    }

    #[test]
    fn a_whole_piece_is_looked_up_even_if_no_merges_lead_to_it() {
        let merger = Merger::from_ranks(ranks(&["abc"])).unwrap();
        let mut ids = Vec::new();
        merger.encode(b"abc", &mut MergeScratch::default(), &mut ids);
        assert_eq!(ids, [256]);
        assert_eq!(by_scan(&merger, b"abcabc"), b"abcabc".map(u32::from));
    }

    #[test]
    fn the_leftmost_of_equal_pairs_is_merged() {
        let merger = Merger::from_ranks(ranks(&["aa"])).unwrap();
        assert_eq!(by_scan(&merger, b"aaa"), [256, 97]);
        assert_eq!(by_heap(&merger, b"aaa").0, [256, 97]);
    }

    #[test]
    fn heap_pops_grow_in_step_with_the_piece() {
        let runs: Vec<String> = (1..=6).map(|power| "a".repeat(1 << power)).collect();
        let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
        let mixed = ["ab", "ba", "aba", "bab", "abab", "baba", "aa", "bb", "abba"];
        for (tokens, unit) in [(runs.as_slice(), "a"), (&mixed, "ab"), (&mixed, "aab"), (&mixed, "abbab")] {
            let merger = Merger::from_ranks(ranks(tokens)).unwrap();
            let pops = |n: usize| by_heap(&merger, unit.repeat(n).as_bytes()).1;
            for n in [1000, 20_000] {
                assert!(pops(2 * n) as f64 <= 2.5 * pops(n) as f64, "{unit}");
                assert!(pops(n) <= 3 * n * unit.len(), "{unit}");
            }
        }
    }

    #[test]
    fn merges_that_make_no_token_are_refused() {
        let ranks = ranks(&["ab"]);
        let refuse = |pairs: &[(u32, u32)]| Merger::from_merges(&ranks, pairs).unwrap_err();
        assert!(matches!(refuse(&[(97, 99)]), Error::MergeWithoutToken { index: 0, left: 97, right: 99 }));
        assert!(matches!(refuse(&[(97, 98), (97, 9999)]), Error::MergeWithoutToken { index: 1, .. }));
        assert!(matches!(refuse(&[(97, 98), (97, 98)]), Error::DuplicateMerge { index: 1 }));
        assert!(matches!(refuse(&vec![(97, 98); MAX_MERGES + 1]), Error::TooManyMerges { .. }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_ways_to_merge_follow_the_definition(
            tokens in proptest::collection::hash_set("[ab]{2,6}", 0..25),
            piece in "[abc]{1,120}",
        ) {
            // The order of a hash set is random, and so are the ranks.
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let ranks = ranks(&tokens);
            let merger = Merger::from_ranks(ranks.clone()).unwrap();
            let piece = piece.as_bytes();
            let mut ids = Vec::new();
            merger.encode(piece, &mut MergeScratch::default(), &mut ids);
            prop_assert_eq!(&ids, &naive(&ranks, piece));
            if ids.len() > 1 {
                prop_assert_eq!(&by_scan(&merger, piece), &ids);
                prop_assert_eq!(&by_heap(&merger, piece).0, &ids);
            }
        }
    }
}
