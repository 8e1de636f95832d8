//! Which bytes of a file are there.

use std::ops::Range;

/// Ranges of bytes in order, apart from each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range, which may overlap others.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let last = self.0.partition_point(|known| known.start <= range.end);
        let merged = self.0[first..last].iter().fold(range, |a, b| a.start.min(b.start)..a.end.max(b.end));
        self.0.splice(first..last, [merged]);
    }

    /// How many bytes are there from the beginning on without a gap.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// How many bytes are there.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// What lacks of `size` bytes, in pieces of at most `piece` bytes.
    pub(crate) fn missing(&self, size: u64, piece: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for range in self.0.iter().cloned().chain(std::iter::once(size..size)) {
            while at < range.start.min(size) {
                let end = range.start.min(size).min(at.saturating_add(piece.max(1)));
                gaps.push(at..end);
                at = end;
            }
            at = at.max(range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_gaps_are_cut_in_pieces() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.missing(10, 4), [0..4, 4..8, 8..10]);
        ranges.insert(4..6);
        ranges.insert(8..9);
        assert_eq!((ranges.prefix(), ranges.total()), (0, 3));
        assert_eq!(ranges.missing(12, 4), [0..4, 6..8, 9..12]);
        ranges.insert(0..4);
        assert_eq!((ranges.prefix(), ranges.total()), (6, 7));
        ranges.insert(5..8);
        assert_eq!((ranges.0.len(), ranges.prefix()), (1, 9));
        assert_eq!(ranges.missing(9, 4), []);
        assert_eq!(Ranges::default().missing(0, 4), []);
        ranges.insert(3..3);
        assert_eq!(ranges.total(), 9);
    }

    #[test]
    fn any_order_gives_the_same() {
        let pieces = [0..3, 3..5, 7..9, 5..7, 20..22, 1..2, 8..12];
        for shift in 0..pieces.len() {
            let mut ranges = Ranges::default();
            for i in 0..pieces.len() {
                ranges.insert(pieces[(i * 3 + shift) % pieces.len()].clone());
            }
            assert_eq!(ranges, Ranges(vec![0..12, 20..22]));
        }
    }
}
