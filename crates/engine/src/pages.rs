//! Page numbers: who holds which, and a reservation that makes running out impossible.
//!
//! A request is admitted only when the pages it may ever hold at once are free of other promises, so no
//! sequence is ever preempted. Pages with a whole block of tokens are published in the prefix cache and may
//! be held by several sequences; what nobody holds stays there until its page is needed.
//!
//! Whoever holds a block's page of the first class holds those of all blocks before it. So of the pages that
//! nobody holds, those longest out of use, the deepest first, are the ends of their prefixes: evicting them
//! in this order never cuts off what is in use, and every one of them counts as free.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::backend::{NO_PAGE, PAGE, Shape};
use crate::limits::Limits;
use crate::prefix_cache::{Lookup, Place, PrefixCache, chain_hash};
use crate::request::Request;

/// The pages of every class.
pub(crate) struct PagePool {
    classes: Vec<Class>,
    /// Absent where it is switched off.
    cache: Option<PrefixCache>,
    /// Counts what is given back, as a time.
    now: u64,
    evicted: u64,
}

struct Class {
    window: usize,
    /// Whether the window is the whole sequence, so that no page comes back before its sequence ends.
    sees_all: bool,
    pages: Vec<PageState>,
    free: Vec<u32>,
    /// Published pages that nobody holds, the next to be evicted first.
    idle: BTreeSet<Idle>,
    /// Of a class that sees all: pages that running sequences may still take. Otherwise: the most they may
    /// hold at once, since one may slide past a page that another still holds.
    promised: usize,
}

#[derive(Clone, Copy)]
struct PageState {
    holders: u32,
    /// The block it is published in, and how many blocks are before that; `NO_PAGE` if it is not.
    block: u32,
    depth: u32,
    /// When its last holder let go.
    since: u64,
}

/// Since when, how deep, which.
type Idle = (u64, Reverse<u32>, u32);

/// What one sequence was promised and holds.
#[derive(Debug)]
pub(crate) struct Holding {
    promised: Vec<usize>,
    /// For each class, the page of every 32 positions; `NO_PAGE` where it was given back.
    pub(crate) tables: Vec<Vec<u32>>,
    /// For each class, how many leading entries were given back.
    returned: Vec<usize>,
    /// Leading blocks that the cache knows, and the place after them; `None` if it shall know no more.
    pub(crate) published: usize,
    pub(crate) place: Option<Place>,
}

/// Pages that a sequence of `tokens` positions holds at most at once, reading its prompt in chunks of up to
/// `chunk`.
pub fn worst_case(tokens: usize, window: usize, chunk: usize) -> usize {
    tokens.div_ceil(PAGE).min((window + chunk).div_ceil(PAGE) + 1)
}

/// Leading blocks that no query at `position` or later can see.
fn unseen(position: usize, window: usize) -> usize {
    position.saturating_sub(window) / PAGE
}

impl PageState {
    fn key(&self, number: u32) -> Idle {
        (self.since, Reverse(self.depth), number)
    }
}

impl Class {
    fn new(window: usize, n_pages: usize, sequence_len: usize) -> Self {
        let page = PageState { holders: 0, block: NO_PAGE, depth: 0, since: 0 };
        Self {
            window,
            sees_all: window + PAGE > sequence_len,
            pages: vec![page; n_pages],
            // The lowest numbers are used first, so that memory is touched no earlier than needed.
            free: (0..n_pages as u32).rev().collect(),
            idle: BTreeSet::new(),
            promised: 0,
        }
    }

    /// Pages that somebody holds, each counted once.
    fn held(&self) -> usize {
        self.pages.len() - self.free.len() - self.idle.len()
    }

    fn hold(&mut self, number: u32) {
        let page = &mut self.pages[number as usize];
        if page.holders == 0 {
            self.idle.remove(&page.key(number));
        }
        page.holders += 1;
    }

    fn let_go(&mut self, number: u32, now: u64) {
        let page = &mut self.pages[number as usize];
        page.holders -= 1;
        if page.holders > 0 {
            return;
        }
        if page.block == NO_PAGE {
            self.free.push(number);
        } else {
            page.since = now;
            self.idle.insert(page.key(number));
        }
    }

    fn publish(&mut self, number: u32, block: u32, depth: usize) {
        let page = &mut self.pages[number as usize];
        (page.block, page.depth) = (block, depth as u32);
    }

    /// The cache forgot a page that nobody holds.
    fn free_idle(&mut self, number: u32) {
        let page = &mut self.pages[number as usize];
        self.idle.remove(&page.key(number));
        page.block = NO_PAGE;
        self.free.push(number);
    }
}

impl PagePool {
    /// All pages free; with a prefix cache if that is wanted and the first class sees everything.
    pub(crate) fn new(shape: &Shape, limits: &Limits) -> Self {
        let classes: Vec<Class> =
            shape.classes.iter().map(|c| Class::new(c.window, c.n_pages, shape.sequence_len)).collect();
        let first = classes.first().filter(|first| limits.prefix_cache && first.sees_all);
        let cache = first.map(|first| PrefixCache::new(first.pages.len(), chain_hash));
        Self { classes, cache, now: 0, evicted: 0 }
    }

    /// Promises pages for a request, or nothing if that many are not left. The holding begins with what the
    /// cache has of its prompt.
    pub(crate) fn reserve(&mut self, request: &Request, chunk: usize) -> Option<Holding> {
        let place = self.cache.as_ref().map(|cache| cache.start(request.scope));
        let known = place.map_or_else(Vec::new, |place| self.known(place, 0, &request.prompt));
        let of_class = |class: &Class| worst_case(request.total_tokens(), class.window, chunk);
        let promised: Vec<usize> = self.classes.iter().map(of_class).collect();
        for (c, (class, &promised)) in self.classes.iter().zip(&promised).enumerate() {
            let needed = if class.sees_all {
                // What others hold already is there once for all of them.
                class.held() + promised - self.held_of(&known, c)
            } else {
                promised
            };
            if class.promised + needed > class.pages.len() {
                return None;
            }
        }
        for (class, promised) in self.classes.iter_mut().zip(&promised) {
            class.promised += promised;
        }
        let n = self.classes.len();
        let (tables, returned) = (vec![Vec::new(); n], vec![0; n]);
        let mut holding = Holding { promised, tables, returned, published: 0, place };
        self.hold_known(&mut holding, &known);
        Some(holding)
    }

    /// Takes over what others have computed after the published blocks of a sequence, which holds nothing
    /// beyond them.
    pub(crate) fn adopt(&mut self, holding: &mut Holding, tokens: &[u32]) {
        let Some(place) = holding.place else { return };
        let known = self.known(place, holding.published, tokens);
        self.hold_known(holding, &known);
    }

    /// Makes sure that positions below `end` have pages.
    pub(crate) fn cover(&mut self, holding: &mut Holding, end: usize) {
        for c in 0..self.classes.len() {
            while holding.tables[c].len() * PAGE < end {
                let number = self.take(c);
                holding.tables[c].push(number);
            }
        }
    }

    /// Publishes the blocks of `tokens` whose positions are all below `computed`. Where the cache has a block
    /// already, its pages take the place of the sequence's own, which hold the same bits.
    pub(crate) fn publish(&mut self, holding: &mut Holding, tokens: &[u32], computed: usize) {
        while let Some(place) = holding.place.filter(|_| (holding.published + 1) * PAGE <= computed) {
            let block = &tokens[holding.published * PAGE..][..PAGE];
            holding.place = self.publish_block(holding, place, block);
            holding.published += usize::from(holding.place.is_some());
        }
    }

    /// Gives back the pages that no query at `position` or later can see.
    pub(crate) fn give_back_behind(&mut self, holding: &mut Holding, position: usize) {
        self.now += 1;
        for ((class, table), returned) in
            self.classes.iter_mut().zip(&mut holding.tables).zip(&mut holding.returned)
        {
            let unseen = unseen(position, class.window).min(table.len());
            // What was out of sight already when it was adopted is no page.
            for entry in table.iter_mut().take(unseen).skip(*returned).filter(|entry| **entry != NO_PAGE) {
                class.let_go(std::mem::replace(entry, NO_PAGE), self.now);
            }
            *returned = unseen.max(*returned);
        }
    }

    /// Takes everything back.
    pub(crate) fn release(&mut self, holding: Holding) {
        self.now += 1;
        for ((class, table), promised) in self.classes.iter_mut().zip(holding.tables).zip(holding.promised) {
            class.promised -= if class.sees_all { promised - table.len() } else { promised };
            for number in table.into_iter().filter(|&number| number != NO_PAGE) {
                class.let_go(number, self.now);
            }
        }
    }

    /// Pages held now and in all, over every class.
    pub(crate) fn usage(&self) -> (usize, usize) {
        self.classes.iter().fold((0, 0), |(held, all), class| (held + class.held(), all + class.pages.len()))
    }

    /// Pages that nobody holds and the cache keeps, over every class.
    pub(crate) fn cached(&self) -> usize {
        self.classes.iter().map(|class| class.idle.len()).sum()
    }

    /// How many cached pages were evicted since the last call.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Asserts that every page is free, cached, or held by as many as name it in `holdings`, which are all
    /// there are, and that all promises can be kept. For tests.
    pub(crate) fn audit<'a>(&self, holdings: impl IntoIterator<Item = &'a Holding>) {
        let holdings: Vec<&Holding> = holdings.into_iter().collect();
        for (c, class) in self.classes.iter().enumerate() {
            let mut holders = vec![0; class.pages.len()];
            for &number in holdings.iter().flat_map(|h| &h.tables[c]).filter(|&&number| number != NO_PAGE) {
                holders[number as usize] += 1;
            }
            let mut free = vec![false; class.pages.len()];
            for &number in &class.free {
                assert!(!std::mem::replace(&mut free[number as usize], true), "{number} is free twice");
            }
            for (number, ((page, holders), free)) in class.pages.iter().zip(holders).zip(free).enumerate() {
                assert_eq!(page.holders, holders, "holders of page {number} of class {c}");
                let number = number as u32;
                assert_eq!(free, holders == 0 && page.block == NO_PAGE, "page {number} of class {c}");
                assert_eq!(class.idle.contains(&page.key(number)), holders == 0 && page.block != NO_PAGE);
                let cache = self.cache.as_ref().filter(|_| page.block != NO_PAGE);
                assert!(cache.is_none_or(|cache| cache.pages(page.block)[c] == number), "{number} is lost");
            }
            let left = |h: &&Holding| h.promised[c] - if class.sees_all { h.tables[c].len() } else { 0 };
            let promised: usize = holdings.iter().map(left).sum();
            assert_eq!(class.promised, promised, "promises of class {c}");
            let held = if class.sees_all { class.held() } else { 0 };
            assert!(held + promised <= class.pages.len(), "class {c} is promised twice");
        }
        let blocks = self.cache.as_ref().map_or(0, PrefixCache::len);
        let published = self
            .classes
            .first()
            .map_or(0, |first| first.pages.iter().filter(|page| page.block != NO_PAGE).count());
        assert_eq!(blocks, published, "every block has its page of the first class");
    }

    fn known(&self, place: Place, first: usize, tokens: &[u32]) -> Vec<u32> {
        let Some(cache) = &self.cache else { return Vec::new() };
        cache.longest(place, first, tokens, |c, blocks| unseen(blocks * PAGE, self.classes[c].window))
    }

    /// How many of these blocks have a page of class `c` that somebody holds.
    fn held_of(&self, blocks: &[u32], c: usize) -> usize {
        let Some(cache) = &self.cache else { return 0 };
        let is_held = |number: u32| number != NO_PAGE && self.classes[c].pages[number as usize].holders > 0;
        blocks.iter().filter(|&&block| is_held(cache.pages(block)[c])).count()
    }

    fn hold_known(&mut self, holding: &mut Holding, blocks: &[u32]) {
        let (Some(cache), Some(&last)) = (&self.cache, blocks.last()) else { return };
        let end = holding.published + blocks.len();
        for (c, class) in self.classes.iter_mut().enumerate() {
            let out_of_sight = unseen(end * PAGE, class.window);
            for (at, &block) in (holding.published..).zip(blocks) {
                let number = if at < out_of_sight { NO_PAGE } else { cache.pages(block)[c] };
                holding.tables[c].push(number);
                if number != NO_PAGE {
                    class.hold(number);
                    class.promised -= usize::from(class.sees_all);
                }
            }
        }
        (holding.place, holding.published) = (Some(cache.after(last)), end);
        self.give_back_behind(holding, end * PAGE);
    }

    fn publish_block(&mut self, holding: &mut Holding, place: Place, tokens: &[u32]) -> Option<Place> {
        let cache = self.cache.as_mut()?;
        let depth = holding.published;
        let own = |table: &Vec<u32>| table[depth];
        match cache.next(place, tokens) {
            Lookup::Collision => None,
            Lookup::Free => {
                let pages: Vec<u32> = holding.tables.iter().map(own).collect();
                for (class, &number) in self.classes.iter_mut().zip(&pages) {
                    class.publish(number, pages[0], depth);
                }
                let block = pages[0];
                cache.insert(place, tokens, pages);
                Some(cache.after(block))
            }
            Lookup::Known(block) => {
                for (c, class) in self.classes.iter_mut().enumerate() {
                    let (own, known) = (holding.tables[c][depth], cache.pages(block)[c]);
                    if known == NO_PAGE {
                        cache.mend(block, c, own);
                        class.publish(own, block, depth);
                    } else {
                        class.hold(known);
                        class.let_go(own, self.now);
                        holding.tables[c][depth] = known;
                    }
                }
                Some(cache.after(block))
            }
        }
    }

    fn take(&mut self, c: usize) -> u32 {
        if self.classes[c].free.is_empty() {
            self.evict(c);
        }
        let class = &mut self.classes[c];
        let number = class.free.pop().expect("a page was promised for every position a sequence holds");
        class.pages[number as usize].holders = 1;
        class.promised -= usize::from(class.sees_all);
        number
    }

    /// Frees the page of class `c` that was out of use the longest, and what is of no use without it.
    fn evict(&mut self, c: usize) {
        let (Some(cache), Some(&(_, _, number))) = (&mut self.cache, self.classes[c].idle.first()) else {
            return;
        };
        for (c, number) in cache.forget(self.classes[c].pages[number as usize].block, c) {
            self.classes[c].free_idle(number);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::PageClass;
    use crate::request::{Sampling, Scope};

    const CHUNK: usize = 32;

    fn shape(classes: &[(usize, usize)]) -> Shape {
        let class = |&(window, n_pages): &(usize, usize)| PageClass { window, n_pages };
        Shape { vocab_size: 1000, sequence_len: 1000, classes: classes.iter().map(class).collect() }
    }

    fn pool() -> PagePool {
        PagePool::new(&shape(&[(1000, 20), (64, 12)]), &Limits::default())
    }

    /// `prompt_len` tokens that begin with `first`, and an answer up to `total` positions.
    fn request(first: u32, prompt_len: usize, total: usize) -> Request {
        let sampling = Sampling { temperature: 0.0, top_k: 0, seed: 0, ..Sampling::default() };
        let prompt = (first..).take(prompt_len).collect();
        Request::new(prompt, total - prompt_len, sampling, 2000, 1000).unwrap()
    }

    fn tokens(first: u32, total: usize) -> Vec<u32> {
        (first..).take(total).collect()
    }

    /// Computes positions up to `end`, `CHUNK` at a time.
    fn compute(pool: &mut PagePool, holding: &mut Holding, tokens: &[u32], end: usize) {
        let mut computed = holding.published * PAGE;
        while computed < end {
            computed = (computed + CHUNK).min(end);
            pool.cover(holding, computed);
            pool.publish(holding, tokens, computed);
            pool.give_back_behind(holding, computed);
        }
    }

    fn given_back(table: &[u32]) -> Vec<bool> {
        table.iter().map(|&page| page == NO_PAGE).collect()
    }

    #[test]
    fn a_promise_is_kept_and_everything_comes_back() {
        for prefix_cache in [false, true] {
            let mut pool =
                PagePool::new(&shape(&[(1000, 20), (64, 12)]), &Limits { prefix_cache, ..Limits::default() });
            let mut holding = pool.reserve(&request(0, 10, 500), CHUNK).unwrap();
            for position in 0..500 {
                pool.cover(&mut holding, position + 1);
                pool.publish(&mut holding, &tokens(0, 500), position + 1);
                pool.give_back_behind(&mut holding, position + 1);
                let short = holding.tables[1].iter().filter(|&&page| page != NO_PAGE).count();
                assert!(short <= worst_case(500, 64, CHUNK), "{short} short pages at {position}");
                pool.audit([&holding]);
            }
            assert!(pool.reserve(&request(0, 10, 500), CHUNK).is_none(), "20 long pages hold one of 500");
            pool.release(holding);
            pool.audit([]);
            assert_eq!(pool.usage(), (0, 32));
            assert_eq!(pool.cached() > 0, prefix_cache);
            assert!(pool.reserve(&request(0, 10, 500), CHUNK).is_some());
        }
    }

    #[test]
    fn pages_inside_the_window_stay() {
        let mut pool = pool();
        let mut holding = pool.reserve(&request(0, 10, 200), CHUNK).unwrap();
        pool.cover(&mut holding, 130);
        pool.give_back_behind(&mut holding, 129);
        // A query at 129 sees 65 ..= 129: blocks 2, 3 and 4.
        assert_eq!(given_back(&holding.tables[1]), [true, true, false, false, false]);
        assert!(holding.tables[0].iter().all(|&page| page != NO_PAGE));
    }

    #[test]
    fn a_prefix_is_held_again_without_what_is_out_of_sight() {
        let mut pool = pool();
        let mut first = pool.reserve(&request(0, 200, 210), CHUNK).unwrap();
        compute(&mut pool, &mut first, &tokens(0, 200), 200);
        let second = pool.reserve(&request(0, 180, 210), CHUNK).unwrap();
        assert_eq!(second.published, 5, "160 of 180");
        assert_eq!(second.tables[0], first.tables[0][..5]);
        assert_eq!(given_back(&second.tables[1]), [true, true, true, false, false]);
        assert_eq!(pool.usage().0, 7 + 4, "each page counts once");
        pool.audit([&first, &second]);
        pool.release(first);
        pool.audit([&second]);
        pool.release(second);
        pool.audit([]);
        let full = pool.reserve(&request(0, 192, 210), CHUNK).unwrap();
        assert_eq!(full.published, 5, "the last token is computed again");
    }

    #[test]
    fn callers_of_other_scopes_find_nothing() {
        let mut pool = pool();
        let of = |scope: Scope| request(0, 100, 110).in_scope(scope);
        let mut first = pool.reserve(&of([1; 32]), CHUNK).unwrap();
        compute(&mut pool, &mut first, &tokens(0, 100), 100);
        assert_eq!(pool.reserve(&of([2; 32]), CHUNK).unwrap().published, 0);
        assert_eq!(pool.reserve(&of([1; 32]), CHUNK).unwrap().published, 3);
    }

    #[test]
    fn what_two_computed_is_kept_once() {
        let mut pool = pool();
        let mut both = [0, 0].map(|_| pool.reserve(&request(0, 100, 110), CHUNK).unwrap());
        for holding in &mut both {
            pool.cover(holding, 100);
        }
        assert_eq!(pool.usage().0, 16);
        let [first, second] = &mut both;
        pool.publish(first, &tokens(0, 100), 100);
        pool.publish(second, &tokens(0, 100), 100);
        assert_eq!(first.tables[0][..3], second.tables[0][..3]);
        assert_ne!(first.tables[0][3], second.tables[0][3], "a block that is not whole is private");
        assert_eq!(pool.usage().0, 10);
        pool.audit(&both);
    }

    #[test]
    fn the_ends_of_what_was_used_first_are_evicted_first() {
        let mut pool = PagePool::new(&shape(&[(1000, 8)]), &Limits::default());
        for first in [0, 500] {
            let mut holding = pool.reserve(&request(first, 97, 98), CHUNK).unwrap();
            compute(&mut pool, &mut holding, &tokens(first, 97), 97);
            pool.release(holding);
        }
        assert_eq!(pool.cached(), 6);
        let mut third = pool.reserve(&request(900, 90, 96), CHUNK).unwrap();
        compute(&mut pool, &mut third, &tokens(900, 90), 90);
        assert_eq!(pool.take_evicted(), 1, "two pages were free");
        let found = |pool: &mut PagePool, first| {
            let holding = pool.reserve(&request(first, 97, 98), CHUNK);
            let published = holding.as_ref().map(|holding| holding.published);
            if let Some(holding) = holding {
                pool.release(holding);
            }
            published
        };
        assert_eq!(found(&mut pool, 500), Some(3));
        assert_eq!(found(&mut pool, 0), Some(2), "the end of what was used first is gone");
    }

    #[test]
    fn a_prefix_in_use_is_promised_once() {
        let mut pool = PagePool::new(&shape(&[(1000, 10)]), &Limits::default());
        let mut first = pool.reserve(&request(0, 200, 224), CHUNK).unwrap();
        assert!(pool.reserve(&request(0, 200, 224), CHUNK).is_none(), "two of 7 do not fit into 10");
        compute(&mut pool, &mut first, &tokens(0, 200), 200);
        let second = pool.reserve(&request(0, 200, 224), CHUNK).unwrap();
        let third = pool.reserve(&request(0, 200, 224), CHUNK).unwrap();
        assert!(pool.reserve(&request(0, 200, 256), CHUNK).is_none(), "one page is left, two are needed");
        let mut all = [first, second, third];
        for holding in &mut all {
            pool.cover(holding, 224);
        }
        assert_eq!(pool.usage(), (9, 10));
        pool.audit(&all);
    }

    #[test]
    fn a_collision_of_hashes_shares_nothing_and_loses_nothing() {
        let mut pool = pool();
        pool.cache = Some(PrefixCache::new(20, |_, _| 7));
        let mut holdings = Vec::new();
        for first in [0, 500, 0] {
            let mut holding = pool.reserve(&request(first, 100, 110), CHUNK).unwrap();
            compute(&mut pool, &mut holding, &tokens(first, 100), 100);
            holdings.push(holding);
            pool.audit(&holdings);
        }
        let published: Vec<usize> = holdings.iter().map(|holding| holding.published).collect();
        assert_eq!(published, [1, 0, 1], "one block at a time has the only hash");
        assert_eq!(holdings[0].tables[0][0], holdings[2].tables[0][0]);
        assert_ne!(holdings[0].tables[0][0], holdings[1].tables[0][0]);
        for holding in holdings {
            pool.release(holding);
        }
        pool.audit([]);
        assert_eq!(pool.cached(), 2);
    }
}
