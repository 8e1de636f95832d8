//! Which prefixes have their keys and values in pages: a tree of blocks of 32 tokens.
//!
//! A block is found by the chain hash of everything from the start of its sequence, and believed only if its
//! own tokens and the block before it are those asked for: a collision of hashes finds nothing. The tree
//! knows page numbers only; who holds a page, and which goes first, is `pages`.

use std::collections::BTreeMap;

use crate::backend::{NO_PAGE, PAGE};
use crate::random::mix;
use crate::request::Scope;

/// Extends a chain hash by a block of tokens.
pub(crate) type ChainHash = fn(u64, &[u32]) -> u64;

/// The tree. A block is named by its page of the first class, which sees everything: without that page the
/// block is of no use.
pub(crate) struct PrefixCache {
    chain_hash: ChainHash,
    /// By page of the first class.
    blocks: Vec<Option<Block>>,
    by_hash: BTreeMap<u64, u32>,
}

struct Block {
    hash: u64,
    before: Before,
    tokens: [u32; PAGE],
    /// For each class; `NO_PAGE` where it was evicted.
    pages: Vec<u32>,
}

/// What comes before a block: another, or the start for callers of one scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Start(Scope),
    Block(u32),
}

/// A place in the tree: between a block and those that may follow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    hash: u64,
    before: Before,
}

/// What the tree has after a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    /// The block that was asked for.
    Known(u32),
    /// Nothing.
    Free,
    /// Another block with the same hash; two never live together.
    Collision,
}

impl PrefixCache {
    /// An empty tree over `n_pages` pages of the first class.
    pub(crate) fn new(n_pages: usize, chain_hash: ChainHash) -> Self {
        Self { chain_hash, blocks: (0..n_pages).map(|_| None).collect(), by_hash: BTreeMap::new() }
    }

    /// Where sequences of a scope start.
    pub(crate) fn start(&self, scope: Scope) -> Place {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(scope.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Place { hash: (self.chain_hash)(0, &words), before: Before::Start(scope) }
    }

    /// The block of `tokens` (32 of them) after `place`.
    pub(crate) fn next(&self, place: Place, tokens: &[u32]) -> Lookup {
        let Some(&name) = self.by_hash.get(&(self.chain_hash)(place.hash, tokens)) else {
            return Lookup::Free;
        };
        match &self.blocks[name as usize] {
            Some(block) if block.before == place.before && block.tokens == tokens => Lookup::Known(name),
            _ => Lookup::Collision,
        }
    }

    /// Adds the block of `tokens` after `place`, where there is none.
    pub(crate) fn insert(&mut self, place: Place, tokens: &[u32], pages: Vec<u32>) {
        let hash = (self.chain_hash)(place.hash, tokens);
        let mut own = [0; PAGE];
        own.copy_from_slice(tokens);
        let name = pages[0];
        self.blocks[name as usize] = Some(Block { hash, before: place.before, tokens: own, pages });
        self.by_hash.insert(hash, name);
    }

    /// The place after a block.
    pub(crate) fn after(&self, name: u32) -> Place {
        Place { hash: self.block(name).hash, before: Before::Block(name) }
    }

    /// The pages of a block, by class.
    pub(crate) fn pages(&self, name: u32) -> &[u32] {
        &self.block(name).pages
    }

    /// Gives a block the page of a class that it lost.
    pub(crate) fn mend(&mut self, name: u32, class: usize, page: u32) {
        if let Some(block) = &mut self.blocks[name as usize] {
            block.pages[class] = page;
        }
    }

    /// Forgets a block's page of a class; of the first class, the block. Returns the pages that left with it,
    /// with their classes.
    pub(crate) fn forget(&mut self, name: u32, class: usize) -> Vec<(usize, u32)> {
        let Some(block) = &mut self.blocks[name as usize] else { return Vec::new() };
        if class > 0 {
            return vec![(class, std::mem::replace(&mut block.pages[class], NO_PAGE))];
        }
        self.by_hash.remove(&block.hash);
        let pages = std::mem::take(&mut block.pages);
        self.blocks[name as usize] = None;
        pages.into_iter().enumerate().filter(|&(_, page)| page != NO_PAGE).collect()
    }

    /// The longest run of blocks after `place` (which is `first` blocks from the start) that a sequence of
    /// `tokens` can go on from: in every class the pages that later positions look at are there, and at least
    /// one token is left to compute. `unseen(class, blocks)` leading blocks are out of sight after so many.
    pub(crate) fn longest(
        &self,
        mut place: Place,
        first: usize,
        tokens: &[u32],
        unseen: impl Fn(usize, usize) -> usize,
    ) -> Vec<u32> {
        let (mut found, mut usable) = (Vec::new(), 0);
        // For each class, the blocks at the end of `found` that have their page.
        let mut runs: Vec<usize> = Vec::new();
        let known = &tokens[..tokens.len().saturating_sub(1)];
        for block in known.chunks_exact(PAGE).skip(first) {
            let Lookup::Known(name) = self.next(place, block) else { break };
            found.push(name);
            place = self.after(name);
            let pages = self.pages(name);
            runs.resize(pages.len(), 0);
            for (run, &page) in runs.iter_mut().zip(pages) {
                *run = if page == NO_PAGE { 0 } else { *run + 1 };
            }
            let end = first + found.len();
            let enough = |(class, &run): (usize, &usize)| run >= end - unseen(class, end).max(first);
            if runs.iter().enumerate().all(enough) {
                usable = found.len();
            }
        }
        found.truncate(usable);
        found
    }

    fn block(&self, name: u32) -> &Block {
        self.blocks[name as usize].as_ref().expect("whoever holds a block's page keeps it in the tree")
    }

    /// Blocks in the tree.
    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }
}

/// The hash of a chain: every token stirs all that came before.
pub(crate) fn chain_hash(before: u64, tokens: &[u32]) -> u64 {
    tokens.iter().fold(before, |hash, &token| mix(hash ^ u64::from(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = [0; 32];

    fn block(first: u32) -> Vec<u32> {
        (first..).take(PAGE).collect()
    }

    /// Two blocks, the second without its page of the second class.
    fn cache(chain_hash: ChainHash) -> (PrefixCache, Vec<u32>) {
        let mut cache = PrefixCache::new(8, chain_hash);
        let start = cache.start(SCOPE);
        cache.insert(start, &block(0), vec![5, 1]);
        cache.insert(cache.after(5), &block(7), vec![3, NO_PAGE]);
        (cache, [block(0), block(7), vec![9]].concat())
    }

    #[test]
    fn a_block_is_found_after_its_own_prefix_only() {
        let (cache, _) = cache(chain_hash);
        let start = cache.start(SCOPE);
        assert_eq!(cache.next(start, &block(0)), Lookup::Known(5));
        assert_eq!(cache.next(start, &block(7)), Lookup::Free, "it is known after another block");
        assert_eq!(cache.next(cache.after(5), &block(7)), Lookup::Known(3));
        assert_eq!(cache.next(cache.start([1; 32]), &block(0)), Lookup::Free, "of another scope");
    }

    #[test]
    fn a_run_ends_where_a_page_in_sight_is_missing() {
        let (mut cache, tokens) = cache(chain_hash);
        let start = cache.start(SCOPE);
        let all_in_sight = |_, _| 0;
        assert_eq!(cache.longest(start, 0, &tokens, all_in_sight), [5]);
        assert_eq!(
            cache.longest(start, 0, &tokens, |class, blocks| if class == 1 { blocks } else { 0 }),
            [5, 3]
        );
        cache.mend(3, 1, 6);
        assert_eq!(cache.longest(start, 0, &tokens, all_in_sight), [5, 3]);
        assert_eq!(cache.longest(start, 0, &tokens[..2 * PAGE], all_in_sight), [5], "a token is left over");
        assert_eq!(cache.longest(cache.after(5), 1, &tokens, all_in_sight), [3]);
        assert_eq!(cache.forget(3, 0), [(0, 3), (1, 6)]);
        assert_eq!(cache.longest(start, 0, &tokens, all_in_sight), [5]);
    }

    #[test]
    fn blocks_of_one_hash_are_never_mixed_up() {
        let mut cache = PrefixCache::new(8, |_, _| 7);
        let start = cache.start(SCOPE);
        cache.insert(start, &block(0), vec![5]);
        assert_eq!(cache.next(start, &block(0)), Lookup::Known(5));
        assert_eq!(cache.next(start, &block(1)), Lookup::Collision, "other tokens");
        assert_eq!(cache.next(cache.after(5), &block(0)), Lookup::Collision, "another prefix");
        assert_eq!(cache.next(cache.start([1; 32]), &block(0)), Lookup::Collision, "another scope");
        cache.forget(5, 0);
        assert_eq!((cache.next(start, &block(0)), cache.len()), (Lookup::Free, 0));
    }
}
