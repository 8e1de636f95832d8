//! Rows that are looked up one by one: embeddings.

use std::ops::Range;

use crate::pool::Shareable;
use crate::{Compute, bf16};

/// Numbers of a row that share a scale in int8.
const GROUP: usize = 64;
/// Rows filled by one task.
const ROWS_AT_ONCE: usize = 32;

/// How the numbers of a [`Table`] are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableFormat {
    /// Exact.
    F32,
    /// Two bytes a number.
    Bf16,
    /// A byte a number, and a scale (f32) for 64 of them.
    Int8,
}

/// A table (rows, width). Immutable once built.
pub struct Table {
    width: usize,
    numbers: TableValues,
}

enum TableValues {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
    Int8 { bytes: Vec<i8>, scales: Vec<f32> },
}

impl TableFormat {
    /// Bytes that a table takes.
    pub fn bytes(self, rows: usize, width: usize) -> usize {
        match self {
            Self::F32 => rows * width * 4,
            Self::Bf16 => rows * width * 2,
            Self::Int8 => rows * (width + width.div_ceil(GROUP) * 4),
        }
    }
}

impl Table {
    /// Fills a table from what `read(rows, numbers)` gives, some rows at a time on all threads.
    pub fn new<E: Send>(
        compute: &Compute,
        format: TableFormat,
        [rows, width]: [usize; 2],
        read: impl Fn(Range<usize>, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let groups = width.div_ceil(GROUP);
        let numbers = match format {
            TableFormat::F32 => {
                let mut numbers = crate::zeroed(rows * width);
                fill(compute, rows, width, &read, &mut numbers, |_, row, to| {
                    to.copy_from_slice(row);
                })?;
                TableValues::F32(numbers)
            }
            TableFormat::Bf16 => {
                let mut numbers = crate::zeroed(rows * width);
                fill(compute, rows, width, &read, &mut numbers, |_, row, to| {
                    for (to, &number) in to.iter_mut().zip(row) {
                        *to = bf16::narrow(number);
                    }
                })?;
                TableValues::Bf16(numbers)
            }
            TableFormat::Int8 => {
                let (mut bytes, mut scales) =
                    (crate::zeroed(rows * width), crate::zeroed::<f32>(rows * groups));
                let scales_of = Shareable(scales.as_mut_ptr());
                fill(compute, rows, width, &read, &mut bytes, |i, row, to| {
                    // SAFETY: row i of the scales exists, and row i of the table is filled by one task only.
                    let scales =
                        unsafe { std::slice::from_raw_parts_mut(scales_of.get().add(i * groups), groups) };
                    quantise(row, to, scales);
                })?;
                TableValues::Int8 { bytes, scales }
            }
        };
        Ok(Self { width, numbers })
    }

    /// Copies a row.
    pub fn look_up(&self, row: u32, to: &mut [f32]) {
        let range = row as usize * self.width..(row as usize + 1) * self.width;
        match &self.numbers {
            TableValues::F32(held) => to.copy_from_slice(&held[range]),
            TableValues::Bf16(held) => bf16::widen_into(&held[range], to),
            TableValues::Int8 { bytes, scales } => {
                let groups = self.width.div_ceil(GROUP);
                let scales = &scales[row as usize * groups..][..groups];
                let held = bytes[range].chunks(GROUP).zip(scales);
                for (to, (bytes, scale)) in to.chunks_mut(GROUP).zip(held) {
                    for (to, &byte) in to.iter_mut().zip(bytes) {
                        *to = f32::from(byte) * scale;
                    }
                }
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            TableValues::F32(held) => held.len() * 4,
            TableValues::Bf16(held) => held.len() * 2,
            TableValues::Int8 { bytes, scales } => bytes.len() + scales.len() * 4,
        }
    }
}

/// Calls `store(row, numbers, its place)` for every row, read some at a time on all threads.
fn fill<T: Send, E: Send>(
    compute: &Compute,
    rows: usize,
    width: usize,
    read: &(impl Fn(Range<usize>, &mut [f32]) -> Result<(), E> + Sync),
    to: &mut [T],
    store: impl Fn(usize, &[f32], &mut [T]) + Sync,
) -> Result<(), E> {
    assert_eq!(to.len(), rows * width);
    let start = Shareable(to.as_mut_ptr());
    compute.pool.try_run(rows.div_ceil(ROWS_AT_ONCE), &|task| {
        let range = task * ROWS_AT_ONCE..((task + 1) * ROWS_AT_ONCE).min(rows);
        let mut numbers = vec![0.0f32; range.len() * width];
        read(range.clone(), &mut numbers)?;
        for (i, row) in range.zip(numbers.chunks_exact(width)) {
            // SAFETY: row i exists and belongs to this task.
            let place = unsafe { std::slice::from_raw_parts_mut(start.get().add(i * width), width) };
            store(i, row, place);
        }
        Ok(())
    })
}

fn quantise(row: &[f32], bytes: &mut [i8], scales: &mut [f32]) {
    for ((numbers, bytes), scale) in row.chunks(GROUP).zip(bytes.chunks_mut(GROUP)).zip(scales) {
        let largest = numbers.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let inverse = if largest < 1e-30 { 0.0 } else { 127.0 / largest };
        *scale = largest / 127.0;
        for (byte, number) in bytes.iter_mut().zip(numbers) {
            *byte = crate::packed::round(number * inverse) as i8;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::Isa;

    #[test]
    fn rows_come_back_as_near_as_their_format_allows() {
        let (rows, width) = (70, 100);
        let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) * 0.013;
        let compute = Compute::new(Isa::SCALAR, 2);
        for (format, limit) in
            [(TableFormat::F32, 0.0), (TableFormat::Bf16, 0.002), (TableFormat::Int8, 0.003)]
        {
            let table = Table::new(&compute, format, [rows, width], |range, to| {
                for (to, i) in to.iter_mut().zip(range.start * width..) {
                    *to = number(i);
                }
                Ok::<(), Infallible>(())
            });
            let Ok(table) = table;
            assert_eq!(table.bytes(), format.bytes(rows, width));
            let mut row = vec![0.0; width];
            for i in [0, 31, 32, 69] {
                table.look_up(i as u32, &mut row);
                for (j, &got) in row.iter().enumerate() {
                    assert!((got - number(i * width + j)).abs() <= limit, "{format:?} {i} {j}: {got}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let compute = Compute::new(Isa::SCALAR, 2);
        let read = |range: Range<usize>, _: &mut [f32]| if range.start == 64 { Err("gone") } else { Ok(()) };
        assert_eq!(Table::new(&compute, TableFormat::Bf16, [100, 4], read).err(), Some("gone"));
    }
}
