//! Weights packed once at load, and how each format lies in memory.
//!
//! A matrix (outputs, inputs) is cut into panels of 32 outputs with K interleaved, one after another in one
//! array of words. Within a panel:
//!
//! - f32: word `k * 32 + c` is weight k of column c.
//! - bf16: word `k / 2 * 32 + c` holds weights k and k + 1, the first in the low half.
//! - int8: groups of 64 inputs. A group begins with 16 words of scales (bf16, column c in the low half of word c,
//!   column c + 16 in the high half); then word `k / 4 * 32 + c` holds weights k … k + 3 of the group as bytes,
//!   each with 128 added.
//! - int4: groups of 32 inputs. Scales as above; then word `k / 8 * 32 + c` holds weights k … k + 3 in its low
//!   nibbles and k + 4 … k + 7 in its high ones, each with 8 added.
//!
//! Inputs beyond the last whole group are padded with zeros.

use std::ops::Range;

use crate::isa::dispatch;
use crate::pool::Shareable;
use crate::simd::Simd;
use crate::tile::PANEL;
use crate::words::Words;
use crate::{Compute, bf16};

/// How weights are held in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WeightFormat {
    /// Four bytes a weight, exact.
    F32,
    /// Two bytes a weight.
    Bf16,
    /// A byte a weight and a scale for 64 of them.
    Int8,
    /// Half a byte a weight and a scale for 32 of them.
    Int4,
}

/// Words of scales at the head of a group: 32 bf16.
pub(crate) const SCALE_WORDS: usize = PANEL / 2;

/// Shape of a group of an integer format.
#[derive(Clone, Copy)]
pub(crate) struct GroupShape {
    /// Inputs that share a scale.
    pub(crate) inputs: usize,
    /// Inputs in a word.
    pub(crate) per_word: usize,
    /// What is added to a weight so that it is not negative.
    pub(crate) bias: i32,
}

impl GroupShape {
    pub(crate) const INT8: Self = Self { inputs: 64, per_word: 4, bias: 128 };
    pub(crate) const INT4: Self = Self { inputs: 32, per_word: 8, bias: 8 };

    /// Words of a group in a panel, its scales included.
    pub(crate) const fn words(self) -> usize {
        SCALE_WORDS + self.inputs / self.per_word * PANEL
    }
}

impl WeightFormat {
    /// Every format, the most exact first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4];

    /// The name used in settings and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    pub(crate) fn group(self) -> Option<GroupShape> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::Int8 => Some(GroupShape::INT8),
            Self::Int4 => Some(GroupShape::INT4),
        }
    }

    /// Words of a panel of `inputs` inputs.
    fn panel_words(self, inputs: usize) -> usize {
        match self {
            Self::F32 => inputs * PANEL,
            Self::Bf16 => inputs / 2 * PANEL,
            Self::Int8 => inputs.div_ceil(GroupShape::INT8.inputs) * GroupShape::INT8.words(),
            Self::Int4 => inputs.div_ceil(GroupShape::INT4.inputs) * GroupShape::INT4.words(),
        }
    }

    /// Bytes that a packed matrix takes.
    pub fn bytes(self, outputs: usize, inputs: usize) -> usize {
        outputs.div_ceil(PANEL) * self.panel_words(inputs) * size_of::<u32>()
    }
}

/// A weight matrix (outputs, inputs), packed. Immutable once built.
pub struct Packed {
    outputs: usize,
    inputs: usize,
    format: WeightFormat,
    words: Words,
}

impl Packed {
    /// Packs the matrix whose rows `read(outputs, rows)` gives, row-major in f32, a panel at a time on all threads.
    /// Besides the result this takes one panel in f32 for each thread.
    pub fn new<E: Send>(
        compute: &Compute,
        format: WeightFormat,
        [outputs, inputs]: [usize; 2],
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        assert!(inputs > 0 && inputs.is_multiple_of(2), "an even number of inputs, not {inputs}");
        let (panels, panel_words) = (outputs.div_ceil(PANEL), format.panel_words(inputs));
        let mut words = Words::zeros(panels * panel_words);
        let start = Shareable(words.as_mut_ptr());
        compute.pool.try_run(panels, &|panel| {
            let range = panel * PANEL..((panel + 1) * PANEL).min(outputs);
            let mut rows = vec![0.0f32; range.len() * inputs];
            read(range, &mut rows)?;
            // SAFETY: panel lies inside `words`, and only this task touches it.
            let words =
                unsafe { std::slice::from_raw_parts_mut(start.get().add(panel * panel_words), panel_words) };
            pack_panel(compute.isa, format, inputs, &rows, words);
            Ok(())
        })?;
        Ok(Self { outputs, inputs, format, words })
    }

    /// Outputs: columns of the product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs: the dimension summed over.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How the weights are held.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.format.bytes(self.outputs, self.inputs)
    }

    pub(crate) fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// The words of one panel.
    pub(crate) fn panel(&self, panel: usize) -> &[u32] {
        let words = self.format.panel_words(self.inputs);
        &self.words[panel * words..][..words]
    }

    /// What is held for weight `input` of `output`: a number, or a whole number to be scaled.
    pub(crate) fn at(&self, output: usize, input: usize) -> f32 {
        let (words, column) = (self.panel(output / PANEL), output % PANEL);
        let Some(group) = self.format.group() else {
            return match self.format {
                WeightFormat::F32 => f32::from_bits(words[input * PANEL + column]),
                _ => bf16::widen((words[input / 2 * PANEL + column] >> (16 * (input % 2))) as u16),
            };
        };
        let words = &words[input / group.inputs * group.words() + SCALE_WORDS..];
        let input = input % group.inputs;
        let word = words[input / group.per_word * PANEL + column];
        let held = if group.per_word == 4 {
            word >> (8 * (input % 4)) & 0xff
        } else {
            word >> (8 * (input % 4) + 4 * (input / 4 % 2)) & 0xf
        };
        (held as i32 - group.bias) as f32
    }

    /// The scale of `output` in a group of inputs.
    pub(crate) fn scale_at(&self, output: usize, group: usize, shape: GroupShape) -> f32 {
        let column = output % PANEL;
        let word = self.panel(output / PANEL)[group * shape.words() + column % SCALE_WORDS];
        bf16::widen((word >> (16 * (column / SCALE_WORDS))) as u16)
    }
}

dispatch! {
    fn pack_panel(format: WeightFormat, inputs: usize, rows: &[f32], words: &mut [u32]) => pack_wide, pack
}

#[inline(always)]
fn pack_wide<S: Simd>(format: WeightFormat, inputs: usize, rows: &[f32], words: &mut [u32]) {
    // The loops vectorise by themselves once they are compiled for the instruction set, and give the same bits.
    pack(format, inputs, rows, words);
}

/// Packs up to 32 rows of `inputs` numbers.
#[inline(always)]
fn pack(format: WeightFormat, inputs: usize, rows: &[f32], words: &mut [u32]) {
    let rows = rows.chunks_exact(inputs).enumerate();
    match format {
        WeightFormat::F32 => {
            for (column, row) in rows {
                for (k, &weight) in row.iter().enumerate() {
                    words[k * PANEL + column] = weight.to_bits();
                }
            }
        }
        WeightFormat::Bf16 => {
            for (column, row) in rows {
                for (k, pair) in row.chunks_exact(2).enumerate() {
                    words[k * PANEL + column] = bf16::pair(pair[0], pair[1]);
                }
            }
        }
        WeightFormat::Int8 => {
            rows.for_each(|(column, row)| pack_groups::<64>(GroupShape::INT8, column, row, words, quantise8));
        }
        WeightFormat::Int4 => {
            rows.for_each(|(column, row)| pack_groups::<32>(GroupShape::INT4, column, row, words, quantise4));
        }
    }
}

/// Packs one row as column `column`; `quantise` turns a group of numbers into whole ones and gives their scale.
#[inline(always)]
fn pack_groups<const N: usize>(
    group: GroupShape,
    column: usize,
    row: &[f32],
    words: &mut [u32],
    quantise: impl Fn(&[f32; N], &mut [i32; N]) -> f32,
) {
    for (weights, words) in row.chunks(N).zip(words.chunks_exact_mut(group.words())) {
        let (mut numbers, mut whole) = ([0.0f32; N], [0i32; N]);
        numbers[..weights.len()].copy_from_slice(weights);
        let scale = u32::from(bf16::narrow(quantise(&numbers, &mut whole)));
        words[column % SCALE_WORDS] |= scale << (16 * (column / SCALE_WORDS));
        for (k, whole) in whole.chunks_exact(group.per_word).enumerate() {
            let mut word = 0;
            for (i, &whole) in whole.iter().enumerate() {
                // Nibbles 4 … 7 lie above nibbles 0 … 3 of the same bytes.
                word |= ((whole + group.bias) as u32) << (8 * (i % 4) + 4 * (i / 4));
            }
            words[SCALE_WORDS + k * PANEL + column] = word;
        }
    }
}

/// The bf16 number nearest to `scale`: what will be multiplied with.
#[inline(always)]
fn held(scale: f32) -> f32 {
    bf16::widen(bf16::narrow(scale))
}

/// The nearest whole number to a small one, ties to even: what is below one half falls off the end of 1.5 · 2²³. Unlike
/// `f32::round_ties_even` this is no call on the oldest x86-64.
#[inline(always)]
pub(crate) fn round(number: f32) -> f32 {
    const LARGE: f32 = 12_582_912.0;
    (number + LARGE) - LARGE
}

/// One over a scale; groups of numbers next to nothing are taken for zeros.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale.abs() < 1e-37 { 0.0 } else { 1.0 / scale }
}

#[inline(always)]
fn quantise8(numbers: &[f32; 64], whole: &mut [i32; 64]) -> f32 {
    let largest = numbers.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = held(largest / 127.0);
    let inverse = inverse(scale);
    for (whole, number) in whole.iter_mut().zip(numbers) {
        *whole = round(number * inverse).clamp(-127.0, 127.0) as i32;
    }
    scale
}

/// What the largest number of a group may become, tried in turn: clipping it a little serves the others.
const LARGEST4: [f32; 6] = [-8.0, -7.5, -7.0, -8.5, 7.0, 7.5];

/// Sixteen steps are few, so the scale with the least squared error is searched for.
#[inline(always)]
fn quantise4(numbers: &[f32; 32], whole: &mut [i32; 32]) -> f32 {
    let largest = numbers.iter().fold(0.0f32, |m, &x| if x.abs() > m.abs() { x } else { m });
    let mut best = (f32::INFINITY, 0.0);
    for target in LARGEST4 {
        let scale = held(largest / target);
        let inverse = inverse(scale);
        // Eight sums side by side, since one alone would have to be added up in order.
        let mut errors = [0.0f32; 8];
        for numbers in numbers.chunks_exact(errors.len()) {
            for (error, number) in errors.iter_mut().zip(numbers) {
                let rest = number - round(number * inverse).clamp(-8.0, 7.0) * scale;
                *error += rest * rest;
            }
        }
        let error: f32 = errors.iter().sum();
        if error < best.0 {
            best = (error, scale);
        }
    }
    let inverse = inverse(best.1);
    for (whole, number) in whole.iter_mut().zip(numbers) {
        *whole = round(number * inverse).clamp(-8.0, 7.0) as i32;
    }
    best.1
}
