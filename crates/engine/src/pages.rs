//! Page numbers: who holds which, and a reservation that makes running out impossible.
//!
//! A request is admitted only when the pages it may ever hold at once are free of other promises, so no
//! sequence is ever preempted.

use model::PAGE;

use crate::backend::PageClass;

/// The pages of every class.
pub(crate) struct PagePool {
    classes: Vec<Class>,
}

struct Class {
    window: usize,
    total: usize,
    promised: usize,
    free: Vec<u32>,
}

/// What one sequence was promised and holds.
#[derive(Default, Debug)]
pub(crate) struct Holding {
    promised: Vec<usize>,
    /// For each class, the page of every 32 positions; `NO_PAGE` where it was given back.
    pub(crate) tables: Vec<Vec<u32>>,
    /// For each class, how many leading entries were given back.
    returned: Vec<usize>,
}

/// Pages of a class that a sequence of `tokens` positions holds at most at once, reading its prompt in
/// chunks of up to `chunk`.
pub(crate) fn worst_case(tokens: usize, window: usize, chunk: usize) -> usize {
    tokens.div_ceil(PAGE).min((window + chunk).div_ceil(PAGE) + 1)
}

impl PagePool {
    pub(crate) fn new(classes: &[PageClass]) -> Self {
        let class = |c: &PageClass| {
            // The lowest numbers are used first, so that memory is touched no earlier than needed.
            let free = (0..c.n_pages as u32).rev().collect();
            Class { window: c.window, total: c.n_pages, promised: 0, free }
        };
        Self { classes: classes.iter().map(class).collect() }
    }

    /// Promises pages for a sequence of `tokens` positions, or nothing if that many are not left.
    pub(crate) fn reserve(&mut self, tokens: usize, chunk: usize) -> Option<Holding> {
        let promised: Vec<usize> = self.classes.iter().map(|c| worst_case(tokens, c.window, chunk)).collect();
        if self.classes.iter().zip(&promised).any(|(class, n)| class.promised + n > class.total) {
            return None;
        }
        for (class, n) in self.classes.iter_mut().zip(&promised) {
            class.promised += n;
        }
        let n = self.classes.len();
        Some(Holding { promised, tables: vec![Vec::new(); n], returned: vec![0; n] })
    }

    /// Makes sure that positions below `end` have pages.
    pub(crate) fn cover(&mut self, holding: &mut Holding, end: usize) {
        for (class, table) in self.classes.iter_mut().zip(&mut holding.tables) {
            while table.len() * PAGE < end {
                let page = class.free.pop();
                table.push(page.expect("a page was promised for every position a sequence holds"));
            }
        }
    }

    /// Takes back the pages that no query at `position` or later can see.
    pub(crate) fn give_back_behind(&mut self, holding: &mut Holding, position: usize) {
        for ((class, table), returned) in
            self.classes.iter_mut().zip(&mut holding.tables).zip(&mut holding.returned)
        {
            let unseen = (position.saturating_sub(class.window) / PAGE).min(table.len());
            for entry in table.iter_mut().take(unseen).skip(*returned) {
                class.free.push(std::mem::replace(entry, model::NO_PAGE));
            }
            *returned = unseen.max(*returned);
        }
    }

    /// Takes everything back.
    pub(crate) fn release(&mut self, holding: Holding) {
        for ((class, table), promised) in self.classes.iter_mut().zip(holding.tables).zip(holding.promised) {
            class.free.extend(table.into_iter().filter(|&page| page != model::NO_PAGE));
            class.promised -= promised;
        }
    }

    /// Pages held now and in all, over every class.
    pub(crate) fn usage(&self) -> (usize, usize) {
        self.classes
            .iter()
            .fold((0, 0), |(used, total), class| (used + class.total - class.free.len(), total + class.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> PagePool {
        PagePool::new(&[PageClass { window: 1000, n_pages: 20 }, PageClass { window: 64, n_pages: 12 }])
    }

    #[test]
    fn a_promise_is_kept_and_everything_comes_back() {
        let mut pool = pool();
        let mut holding = pool.reserve(500, 32).unwrap();
        for position in 0..500 {
            pool.cover(&mut holding, position + 1);
            pool.give_back_behind(&mut holding, position + 1);
            let short = holding.tables[1].iter().filter(|&&page| page != model::NO_PAGE).count();
            assert!(short <= worst_case(500, 64, 32), "{short} short pages at {position}");
        }
        assert!(pool.reserve(500, 32).is_none(), "20 long pages hold one sequence of 500");
        pool.release(holding);
        assert_eq!(pool.usage(), (0, 32));
        assert!(pool.reserve(500, 32).is_some());
    }

    #[test]
    fn pages_inside_the_window_stay() {
        let mut pool = pool();
        let mut holding = pool.reserve(200, 32).unwrap();
        pool.cover(&mut holding, 130);
        pool.give_back_behind(&mut holding, 129);
        // A query at 129 sees 65 ..= 129: blocks 2, 3 and 4.
        let gone: Vec<bool> = holding.tables[1].iter().map(|&page| page == model::NO_PAGE).collect();
        assert_eq!(gone, [true, true, false, false, false]);
        assert!(holding.tables[0].iter().all(|&page| page != model::NO_PAGE));
    }
}
