//! Activations as integer weights want them: bytes with a scale for each group.

use crate::activations::{PreparedRow, SMALLEST};
use crate::packed::GroupShape;

pub(crate) fn quantise(row: &[f32], to: &mut PreparedRow<'_>, group: GroupShape) {
    to.words.fill(0);
    for (g, numbers) in row.chunks(group.inputs).enumerate() {
        let largest = numbers.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let inverse = if largest < SMALLEST { 0.0 } else { 127.0 / largest };
        to.scales[g] = largest / 127.0;
        to.sums[g] = 0;
        for (i, x) in numbers.iter().enumerate() {
            let whole = (x * inverse).round_ties_even() as i8;
            to.sums[g] += i32::from(whole);
            to.words[(g * group.inputs + i) / 4] |= u32::from(whole as u8) << (8 * (i % 4));
        }
    }
    if row.iter().any(|x| !x.is_finite()) {
        // Infinite and missing numbers poison every product of the row.
        to.scales.fill(f32::NAN);
    }
}
