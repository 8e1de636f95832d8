//! Large zeroed memory that begins on a cache line, so that no vector of a panel straddles two.

use std::ops::{Deref, DerefMut};

/// Words in a cache line.
const LINE: usize = 64 / size_of::<u32>();

/// Words of 32 bits. The system hands their pages out as they are touched.
pub(crate) struct Words {
    storage: Vec<u32>,
    skipped: usize,
}

impl Words {
    pub(crate) fn zeros(count: usize) -> Self {
        let storage: Vec<u32> = crate::zeroed(count + LINE - 1);
        let skipped = storage.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE - 1);
        Self { storage, skipped }
    }

    fn count(&self) -> usize {
        self.storage.len() - (LINE - 1)
    }
}

impl Deref for Words {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.storage[self.skipped..][..self.count()]
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        let count = self.count();
        &mut self.storage[self.skipped..][..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_on_a_cache_line() {
        for count in [0, 1, 16, 1000, 1 << 20] {
            let mut words = Words::zeros(count);
            assert_eq!(words.as_ptr() as usize % 64, 0);
            assert_eq!(words.len(), count);
            words.fill(1);
        }
    }
}
