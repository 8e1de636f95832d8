//! Python's two kinds of number: integers of any size and floats, their arithmetic and how `str` prints them.
//! `None` is an exception: division by zero, or an integer too large for a float.

use num_bigint::{BigInt, Sign};
use std::fmt;

/// A Python number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Int(BigInt),
    Float(f64),
}

impl Number {
    pub(super) fn negate(self) -> Number {
        match self {
            Number::Int(int) => Number::Int(-int),
            Number::Float(float) => Number::Float(-float),
        }
    }

    pub(super) fn add(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(Number::Int(a + b)),
            (a, b) => Some(Number::Float(a.to_float()? + b.to_float()?)),
        }
    }

    pub(super) fn subtract(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(Number::Int(a - b)),
            (a, b) => Some(Number::Float(a.to_float()? - b.to_float()?)),
        }
    }

    pub(super) fn multiply(self, other: Number) -> Option<Number> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(Number::Int(a * b)),
            (a, b) => Some(Number::Float(a.to_float()? * b.to_float()?)),
        }
    }

    /// `/`, which is a float for integers too.
    pub(super) fn divide(self, other: Number) -> Option<Number> {
        if other.is_zero() {
            return None;
        }
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => divide_ints(&a, &b).map(Number::Float),
            (a, b) => Some(Number::Float(a.to_float()? / b.to_float()?)),
        }
    }

    /// `//`, which rounds towards minus infinity.
    pub(super) fn floor_divide(self, other: Number) -> Option<Number> {
        if other.is_zero() {
            return None;
        }
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(Number::Int(floor_divide_ints(&a, &b))),
            (a, b) => Some(Number::Float(floor_divide_floats(a.to_float()?, b.to_float()?))),
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Number::Int(int) => int.sign() == Sign::NoSign,
            Number::Float(float) => *float == 0.0,
        }
    }

    /// The nearest float, ties to even; none for an integer beyond the largest.
    fn to_float(&self) -> Option<f64> {
        match self {
            // Parsing is exact and correctly rounded at any length.
            Number::Int(int) => int.to_string().parse().ok().filter(|float: &f64| float.is_finite()),
            Number::Float(float) => Some(*float),
        }
    }
}

impl fmt::Display for Number {
    /// As `str` prints it: a float has a point or an exponent, the latter below -4 and from 16 on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let float = match self {
            Number::Int(int) => return int.fmt(f),
            Number::Float(float) if float.is_nan() => return f.write_str("nan"),
            Number::Float(float) if float.is_infinite() => return float.fmt(f),
            Number::Float(float) => *float,
        };
        let (digits, exponent) = shortest_digits(float).ok_or(fmt::Error)?;
        if float.is_sign_negative() {
            f.write_str("-")?;
        }
        if !(-4..16).contains(&exponent) {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            return write!(f, "{first}{point}{rest}e{exponent:+03}");
        }
        if exponent < 0 {
            let zeros = exponent.unsigned_abs() as usize - 1;
            return write!(f, "0.{:0<zeros$}{digits}", "");
        }
        // At least one digit after the point.
        let whole = exponent as usize + 1;
        let digits = format!("{digits:0<width$}", width = whole + 1);
        write!(f, "{}.{}", &digits[..whole], &digits[whole..])
    }
}

/// The digits that Python prints for a finite float without its sign, and the exponent of the first of them.
///
/// They are the fewest that read back as the same float, and of these the nearest to it. Rust finds as many
/// digits; where two such numbers are equally near it takes the upper, Python the one with an even last digit.
/// Rounding to that many digits goes to even in Rust too, but next to a power of two it may read back as another
/// float: then Rust's digits stand.
fn shortest_digits(float: f64) -> Option<(String, i32)> {
    let float = float.abs();
    let shortest = format!("{float:e}");
    let n_decimals = shortest.split_once('e')?.0.len().saturating_sub("1.".len());
    let rounded = format!("{float:.n_decimals$e}");
    let reads_back = rounded.parse() == Ok(float);
    let (digits, exponent) = if reads_back { &rounded } else { &shortest }.split_once('e')?;
    Some((digits.replace('.', ""), exponent.parse().ok()?))
}

fn floor_divide_ints(a: &BigInt, b: &BigInt) -> BigInt {
    let quotient = a / b;
    let remainder = a - &quotient * b;
    let has_other_sign = remainder.sign() != Sign::NoSign && remainder.sign() != b.sign();
    if has_other_sign { quotient - 1 } else { quotient }
}

/// CPython's steps, so that its rounding is ours: the quotient less the exact remainder is a whole number but for
/// an error of division, which the last step mends.
fn floor_divide_floats(a: f64, b: f64) -> f64 {
    let remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if remainder != 0.0 && (b < 0.0) != (remainder < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0.0_f64.copysign(a / b);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 { floor + 1.0 } else { floor }
}

/// Bits of quotient that are computed: more than the 53 of a float and two to round by.
const QUOTIENT_BITS: i64 = 64;

/// The float nearest to the exact quotient, ties to even. `b` is not zero.
///
/// The quotient is computed to 64 or 65 bits, the lowest set if anything is left over, and rounded once.
fn divide_ints(a: &BigInt, b: &BigInt) -> Option<f64> {
    let negative = (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus);
    let (a, b) = (a.magnitude(), b.magnitude());
    let shift = QUOTIENT_BITS - (a.bits() as i64 - b.bits() as i64);
    let (numerator, denominator) =
        if shift >= 0 { (a << shift as u64, b.clone()) } else { (a.clone(), b << shift.unsigned_abs()) };
    let quotient = &numerator / &denominator;
    let is_exact = &quotient * &denominator == numerator;
    let quotient = u128::try_from(quotient).ok()? | u128::from(!is_exact);
    let float = round_scaled(quotient, -shift);
    float.is_finite().then_some(if negative { -float } else { float })
}

/// The float nearest to `bits * 2^exponent`, ties to even; infinity if it is too large.
fn round_scaled(bits: u128, exponent: i64) -> f64 {
    let n_bits = i64::from(u128::BITS - bits.leading_zeros());
    // Floats have 53 bits, and none below 2^-1074.
    let dropped = (n_bits - 53).max(-1074 - exponent).max(0);
    if bits == 0 || dropped > n_bits {
        return 0.0;
    }
    let kept = bits.checked_shr(dropped as u32).unwrap_or(0);
    let lost = bits - kept.checked_shl(dropped as u32).unwrap_or(0);
    let half = if dropped == 0 { 0 } else { 1_u128 << (dropped - 1) };
    let rounds_up = dropped > 0 && (lost > half || (lost == half && kept % 2 == 1));
    scale((kept + u128::from(rounds_up)) as f64, exponent + dropped)
}

/// `float * 2^exponent` in steps that stay exact, for a result that is a float or too large for one.
fn scale(mut float: f64, mut exponent: i64) -> f64 {
    while exponent > 1000 && float.is_finite() {
        float *= 2.0_f64.powi(1000);
        exponent -= 1000;
    }
    while exponent < -1000 {
        float *= 2.0_f64.powi(-1000);
        exponent += 1000;
    }
    float * 2.0_f64.powi(exponent.min(1000) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_printed_as_python_does() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (100.0, "100.0"),
            (0.0001, "0.0001"),
            (0.000_099, "9.9e-05"),
            (123_456.75, "123456.75"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e22, "1e+22"),
            (1e-7, "1e-07"),
            (-2.5e300, "-2.5e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::from_bits(1), "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (-f64::NAN, "nan"),
            // Two numbers of 16 digits are equally near: Python takes the even one.
            (4_557_948_953_164_762.0 / 8.0, "569743619145595.2"),
            (2_140_926_986_245_037.0 / 8.0, "267615873280629.62"),
            // The nearest number of 16 digits reads back as the float below, the next one as this.
            (2.0_f64.powi(-1017), "7.120236347223045e-307"),
            (2.0_f64.powi(-44), "5.684341886080802e-14"),
            (2.0_f64.powi(1000), "1.0715086071862673e+301"),
            (9_007_199_254_740_992.0, "9007199254740992.0"),
        ];
        for (float, expected) in table {
            assert_eq!(Number::Float(float).to_string(), expected);
        }
    }

    #[test]
    fn quotients_are_rounded_once_at_the_edges_of_floats() {
        let power = |exponent: u64| BigInt::from(1) << exponent;
        let one = BigInt::from(1);
        assert_eq!(divide_ints(&one, &power(1074)), Some(f64::from_bits(1)));
        assert_eq!(divide_ints(&one, &power(1075)), Some(0.0));
        assert_eq!(divide_ints(&BigInt::from(3), &power(1076)), Some(f64::from_bits(1)));
        assert_eq!(divide_ints(&BigInt::from(3), &power(1075)), Some(f64::from_bits(2)));
        assert_eq!(divide_ints(&one, &power(9000)), Some(0.0));
        assert_eq!(divide_ints(&power(9000), &power(8000)), Some(2.0_f64.powi(1000)));
        assert_eq!(divide_ints(&power(1024), &one), None);
        assert_eq!(divide_ints(&(power(1024) - 1), &one), None);
        assert_eq!(divide_ints(&(power(1024) - power(970)), &one), None);
        assert_eq!(divide_ints(&(power(1024) - power(970) - 1), &one), Some(f64::MAX));
        assert_eq!(divide_ints(&(power(53) + 1), &one), Some(2.0_f64.powi(53)));
        assert_eq!(
            divide_ints(&(power(153) + power(100) + 1), &one),
            Some((2.0_f64.powi(53) + 2.0) * 2.0_f64.powi(100))
        );
    }
}
