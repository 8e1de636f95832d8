//! bf16 is the upper half of an f32. Numbers are widened exactly and narrowed to the nearest, ties to even.

/// The f32 that `bits` stands for.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bf16 nearest to `value`, ties to even; every NaN becomes the quiet NaN.
#[inline(always)]
pub fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if value.is_nan() { 0x7fc0 } else { rounded as u16 }
}

/// Widens a slice; both have the same length.
pub fn widen_into(bits: &[u16], values: &mut [f32]) {
    assert_eq!(bits.len(), values.len());
    for (value, &bits) in values.iter_mut().zip(bits) {
        *value = widen(bits);
    }
}

/// Two bf16 in one word, the first in the low half: what a bf16 dot product consumes.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    u32::from(narrow(first)) | u32::from(narrow(second)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bf16_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = widen(bits);
            if value.is_nan() {
                assert!(widen(narrow(value)).is_nan());
            } else {
                assert_eq!(narrow(value), bits);
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_overflow_to_infinity() {
        assert_eq!(narrow(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(narrow(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(narrow(f32::MAX), 0x7f80);
        assert_eq!(narrow(f32::NEG_INFINITY), 0xff80);
    }
}
