//! Loops that do nothing but run into one limit of this machine, so that kernels can be compared with it.
//!
//! They have no clock: each does an amount of work and says how much, and whoever calls them holds the
//! watch. A limit is the machine's own, whatever instruction set the kernels were told to use.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::isa::dispatch;
use crate::simd::Simd;
use crate::{Compute, Pool};

/// Words that one task of [`read`] adds up: 2 MiB, far more than the start of a stream costs.
const WORDS_PER_TASK: usize = 256 * 1024;
/// Rounds of one task of [`Arithmetic::run`]: some microseconds, far more than handing it out takes.
const ROUNDS_PER_TASK: usize = 4096;
/// Chains of operations that do not wait for one another: more than any CPU's latency times its units.
const CHAINS: usize = 24;
/// As many of them as fit into sixteen registers beside two operands.
#[cfg(target_arch = "x86_64")]
const CHAINS_OF_16_REGISTERS: usize = 12;

/// Reads all of `words` once, with all threads, and returns their sum.
pub fn read(compute: &Compute, words: &[u64]) -> u64 {
    let total = AtomicU64::new(0);
    compute.pool.run(words.len().div_ceil(WORDS_PER_TASK), &|task| {
        let first = task * WORDS_PER_TASK;
        let mut sum = 0;
        add_up(compute.isa, &words[first..(first + WORDS_PER_TASK).min(words.len())], &mut sum);
        total.fetch_add(sum, Ordering::Relaxed);
    });
    total.into_inner()
}

dispatch! {
    fn add_up(words: &[u64], sum: &mut u64) => add_up_wide, add_up_plain
}

#[inline(always)]
fn add_up_wide<S: Simd>(words: &[u64], sum: &mut u64) {
    // The loop vectorises by itself once it is compiled for the instruction set.
    add_up_plain(words, sum);
}

#[inline(always)]
fn add_up_plain(words: &[u64], sum: &mut u64) {
    // Several partial sums, so that loads and not additions are what it waits for.
    let mut sums = [0u64; 64];
    let (blocks, rest) = words.as_chunks::<64>();
    for block in blocks {
        for (sum, word) in sums.iter_mut().zip(block) {
            *sum = sum.wrapping_add(*word);
        }
    }
    *sum = sums.iter().chain(rest).fold(0, |sum, word| sum.wrapping_add(*word));
}

/// The kinds of numbers that products are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// f32 into f32.
    F32,
    /// Pairs of bf16 into f32.
    Bf16,
    /// Fours of int8 into int32.
    Int8,
}

/// One loop: what it is made of, and how much a round does.
struct Probe {
    instruction: &'static str,
    /// Multiplications and additions of one round.
    operations: usize,
    /// Runs so many rounds. The features it is compiled for were detected.
    run: unsafe fn(usize),
}

impl Arithmetic {
    /// All of them, the widest numbers first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The fastest instruction of this CPU for such products.
    pub fn instruction(self) -> &'static str {
        self.fastest().instruction
    }

    /// Runs `rounds` rounds, rounded up to whole tasks, shared out among the threads. Returns how many
    /// multiplications and additions that were.
    pub fn run(self, pool: &Pool, rounds: usize) -> u64 {
        let probe = self.fastest();
        let n_tasks = rounds.div_ceil(ROUNDS_PER_TASK);
        pool.run(n_tasks, &|_| {
            // SAFETY: `fastest` returns only loops whose features this CPU has.
            unsafe { (probe.run)(ROUNDS_PER_TASK) };
        });
        (n_tasks * ROUNDS_PER_TASK * probe.operations) as u64
    }

    #[cfg(target_arch = "x86_64")]
    fn fastest(self) -> Probe {
        use x86_64 as loops;
        let probe = |instruction, operations, run| Probe { instruction, operations, run };
        let avx512 = is_x86_feature_detected!("avx512f");
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match self {
            Self::Int8 if avx512 && is_x86_feature_detected!("avx512vnni") => {
                probe("vpdpbusd zmm", CHAINS * 128, loops::int8_avx512)
            }
            Self::Int8 if avx2 => probe("vpmaddubsw ymm", CHAINS_OF_16_REGISTERS * 64, loops::int8_avx2),
            Self::Bf16 if avx512 && is_x86_feature_detected!("avx512bf16") => {
                probe("vdpbf16ps zmm", CHAINS * 64, loops::bf16_avx512)
            }
            _ if avx512 => probe("vfmadd zmm", CHAINS * 32, loops::f32_avx512),
            _ if avx2 => probe("vfmadd ymm", CHAINS_OF_16_REGISTERS * 16, loops::f32_avx2),
            _ => Probe::PORTABLE,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[expect(clippy::unused_self, reason = "only the loops of x86-64 differ by it")]
    fn fastest(self) -> Probe {
        Probe::PORTABLE
    }
}

impl Probe {
    /// What the compiler makes of a plain loop for the architecture's base line.
    const PORTABLE: Self = Self { instruction: "portable f32", operations: CHAINS * 4 * 2, run: portable };
}

fn portable(rounds: usize) {
    let (factor, term) = black_box((0.5f32, 1.0f32));
    let mut sums = [[0.0f32; 4]; CHAINS];
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            // Fused where the base line has it; a call into the mathematics library elsewhere.
            *sum =
                if cfg!(target_arch = "aarch64") { sum.mul_add(factor, term) } else { *sum * factor + term };
        }
    }
    black_box(sums);
}

/// The loops of x86-64. None of them touches memory.
#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm256_add_epi32, _mm256_fmadd_ps, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::{CHAINS, CHAINS_OF_16_REGISTERS};

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512(rounds: usize) {
        let (factor, term) = black_box((_mm512_set1_ps(0.5), _mm512_set1_ps(1.0)));
        let mut sums = [term; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512(rounds: usize) {
        // SAFETY: both types are 64 bytes of which every pattern is a value.
        let ones = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi16(0x3f80)) };
        let (a, b) = black_box((ones, ones));
        let mut sums = [_mm512_set1_ps(0.0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_avx512(rounds: usize) {
        let (a, b) = black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(-2)));
        let mut sums = [_mm512_set1_epi8(0); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2(rounds: usize) {
        let (factor, term) = black_box((_mm256_set1_ps(0.5), _mm256_set1_ps(1.0)));
        let mut sums = [term; CHAINS_OF_16_REGISTERS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn int8_avx2(rounds: usize) {
        let (weights, ones) = black_box((_mm256_set1_epi8(1), _mm256_set1_epi16(1)));
        let mut sums = [_mm256_set1_epi8(3); CHAINS_OF_16_REGISTERS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // Its own factor, since products of two constants would be computed once.
                let products = _mm256_madd_epi16(_mm256_maddubs_epi16(*sum, weights), ones);
                *sum = _mm256_add_epi32(*sum, products);
            }
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_word_is_read_once_on_every_instruction_set() {
        let words: Vec<u64> = (0..WORDS_PER_TASK as u64 * 2 + 77).collect();
        let sum = words.iter().sum();
        for isa in Isa::available() {
            assert_eq!(read(&Compute::new(isa, 2), &words), sum, "{}", isa.name());
        }
        assert_eq!(read(&Compute::new(Isa::SCALAR, 1), &[]), 0);
    }

    #[test]
    fn whole_tasks_are_counted() {
        let pool = Pool::new(2);
        for kind in Arithmetic::ALL {
            let one = kind.run(&pool, 1);
            assert!(one > 0 && one.is_multiple_of(ROUNDS_PER_TASK as u64), "{}", kind.instruction());
            assert_eq!(kind.run(&pool, ROUNDS_PER_TASK + 1), 2 * one);
            assert_eq!(kind.run(&pool, 0), 0);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_loop_that_this_cpu_has_runs() {
        portable(3);
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: just detected.
            unsafe {
                x86_64::f32_avx2(3);
                x86_64::int8_avx2(3);
            }
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: just detected.
            unsafe { x86_64::f32_avx512(3) };
        }
    }
}
