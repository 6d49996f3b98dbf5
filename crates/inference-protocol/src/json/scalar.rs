//! Numbers and booleans, from the text to their final type.

use super::{Fault, Reader, read};
use read::Mode;

/// A Rust type that one JSON scalar becomes.
pub(crate) trait Scalar: Sized + Copy {
    /// Reads the scalar at the cursor.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Fault>;
}

/// A number as the grammar has it: `±mantissa · 10^exponent`, and where it stands.
#[derive(Clone, Copy)]
struct Number {
    start: usize,
    end: usize,
    negative: bool,
    mantissa: u64,
    exponent: i64,
    /// All digits are in `mantissa`.
    exact: bool,
    /// Neither fraction nor exponent.
    integer: bool,
}

/// Digits of a mantissa that surely fit in 64 bits.
const MOST_DIGITS: usize = 19;

/// Takes the digits at `at` into `mantissa`, which wraps around when there are too many; where they end.
#[inline]
fn digits(text: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    const POWERS_OF_TEN: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    while let Some(eight) = text.get(at..at + 8) {
        let eight = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let count = leading_digits(eight);
        if count == 0 {
            return at;
        }
        if count < 8 {
            // What is no digit is shifted out, zeros stand before the rest.
            let value = value_of(eight << (64 - 8 * count));
            *mantissa = mantissa.wrapping_mul(POWERS_OF_TEN[count]).wrapping_add(value);
            return at + count;
        }
        *mantissa = mantissa.wrapping_mul(100_000_000).wrapping_add(value_of(eight));
        at += 8;
    }
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    at
}

/// How many of eight bytes are ASCII digits before the first that is none; the first byte is the lowest. Above 9, a
/// byte less 0x30 carries into its high bit when 0x76 is added, or has it already; what carries on is behind the first.
#[inline]
fn leading_digits(eight: u64) -> usize {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const CARRY: u64 = 0x7676_7676_7676_7676;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let values = eight ^ ZEROS;
    let others = (values.wrapping_add(CARRY) | values) & HIGH;
    (others.trailing_zeros() / 8) as usize
}

/// The number that eight ASCII digits are, the first in the lowest byte: pairs, then fours, then all of them.
#[inline]
fn value_of(eight: u64) -> u64 {
    let digits = eight & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

impl Reader<'_> {
    /// Reads a number; `expected` tells what is wanted where there is none.
    #[expect(
        clippy::inline_always,
        reason = "a call would return this through memory, for every number"
    )]
    #[inline(always)]
    fn number(&mut self, text: &[u8], expected: &'static str) -> Result<Number, Fault> {
        let start = self.at;
        let negative = text.get(start) == Some(&b'-');
        let first = start + usize::from(negative);
        let mut mantissa = 0_u64;
        let mut at = match text.get(first..first + 2) {
            // As most floats begin.
            Some(&[digit @ b'0'..=b'9', b'.']) => {
                mantissa = u64::from(digit - b'0');
                first + 1
            }
            _ => digits(text, first, &mut mantissa),
        };
        let whole = at - first;
        if whole == 0 {
            self.at = if negative { at } else { start };
            return if negative {
                self.syntax("a digit")
            } else {
                self.unwanted(expected)
            };
        }
        if text[first] == b'0' && whole > 1 {
            self.at = first;
            return self.syntax("no leading zero");
        }
        let mut fraction = 0;
        if text.get(at) == Some(&b'.') {
            let point = at;
            at = digits(text, point + 1, &mut mantissa);
            fraction = at - point - 1;
            if fraction == 0 {
                self.at = at;
                return self.syntax("a digit after the point");
            }
        }
        let mut number = Number {
            start,
            end: at,
            negative,
            mantissa,
            exponent: -(fraction as i64),
            exact: true,
            integer: fraction == 0,
        };
        if whole + fraction > MOST_DIGITS {
            number.count_significant(&text[first..at]);
        }
        if let Some(b'e' | b'E') = text.get(at) {
            self.exponent(text, &mut number)?;
        }
        self.at = number.end;
        Ok(number)
    }

    /// Adds the exponent that stands at the number's end.
    #[cold]
    fn exponent(&mut self, text: &[u8], number: &mut Number) -> Result<(), Fault> {
        let mut at = number.end + 1;
        let minus = text.get(at) == Some(&b'-');
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let first = at;
        let mut value = 0_i64;
        while let Some(digit @ b'0'..=b'9') = text.get(at) {
            value = value
                .saturating_mul(10)
                .saturating_add(i64::from(digit - b'0'))
                .min(1_000_000_000);
            at += 1;
        }
        if at == first {
            self.at = at;
            return self.syntax("a digit of the exponent");
        }
        number.exponent += if minus { -value } else { value };
        number.integer = false;
        number.end = at;
        Ok(())
    }

    /// Steps over a number.
    pub(super) fn skip_number(&mut self) -> Result<(), Fault> {
        if self.mode == Mode::Lenient && self.non_finite_literal().is_some() {
            return Ok(());
        }
        if !matches!(self.byte(), Some(b'-' | b'0'..=b'9')) {
            return self.syntax("a value");
        }
        let text = self.bytes();
        self.number(text, "a value").map(|_| ())
    }

    fn non_finite_literal(&mut self) -> Option<f64> {
        match self.byte()? {
            b'n' if self.literal("null") => Some(f64::NAN),
            b'N' if self.literal("NaN") => Some(f64::NAN),
            b'I' if self.literal("Infinity") => Some(f64::INFINITY),
            b'-' if self.literal("-Infinity") => Some(f64::NEG_INFINITY),
            _ => None,
        }
    }

    /// The word that stands for a float, where such words are read.
    fn word(&mut self) -> Option<f64> {
        self.peek();
        if self.mode == Mode::Lenient {
            self.non_finite_literal()
        } else {
            None
        }
    }
}

/// Powers of ten that an `f64` holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl Number {
    /// Takes mantissa and exponent anew out of so many `digits` that they may not fit: leading zeros do not fill the
    /// mantissa, and what comes after 19 others only counts.
    #[cold]
    fn count_significant(&mut self, digits: &[u8]) {
        let (mut significant, mut behind_point) = (0, false);
        (self.mantissa, self.exponent) = (0, 0);
        for &byte in digits {
            if byte == b'.' {
                behind_point = true;
                continue;
            }
            if significant < MOST_DIGITS {
                self.mantissa = self.mantissa * 10 + u64::from(byte - b'0');
                significant += usize::from(self.mantissa != 0);
                self.exponent -= i64::from(behind_point);
            } else {
                self.exact = false;
                self.exponent += i64::from(!behind_point);
            }
        }
    }

    /// `mantissa · 10^exponent` by one multiplication or division, if the power of ten is exact.
    fn scaled(self) -> Option<f64> {
        let power = *POWERS_OF_TEN.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        let mantissa = self.mantissa as f64;
        let value = if self.exponent < 0 {
            mantissa / power
        } else {
            mantissa * power
        };
        Some(if self.negative { -value } else { value })
    }

    /// The nearest `f64` by Clinger's fast path: both operands exact, so one correctly rounded operation.
    fn to_f64(self) -> Option<f64> {
        if self.exact && self.mantissa <= 1 << 53 {
            self.scaled()
        } else {
            None
        }
    }

    /// The nearest `f32`, out of an `f64` that is off by at most 2 of its last places: rounding that again is
    /// right unless the exact value may lie on the other side of a midpoint of two `f32`.
    fn to_f32(self) -> Option<f32> {
        const DROPPED: u64 = (1 << 29) - 1; // bits that `f64` has beyond `f32`
        const MIDPOINT: u64 = 1 << 28;
        if !self.exact {
            return None;
        }
        let value = self.scaled()?;
        let beyond = value.to_bits() & DROPPED;
        // Below f32::MIN_POSITIVE more bits are dropped, and beyond f32::MAX there is nothing to round to.
        let normal = value == 0.0 || (value.abs() >= f64::from(f32::MIN_POSITIVE) && value.abs() < 3.4e38);
        (normal && beyond.abs_diff(MIDPOINT) > 2).then_some(value as f32)
    }
}

impl Scalar for f64 {
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<f64, Fault> {
        if let Some(value) = reader.word() {
            return Ok(value);
        }
        let text = reader.bytes();
        let number = reader.number(text, "a number")?;
        let value = match number.to_f64() {
            Some(value) => value,
            None => reader
                .slice(number.start, number.end)
                .parse()
                .unwrap_or(f64::INFINITY),
        };
        in_range(
            value.is_finite(),
            value,
            number.start,
            "a number in the range of FP64",
        )
    }
}

impl Scalar for f32 {
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<f32, Fault> {
        if let Some(value) = reader.word() {
            return Ok(value as f32);
        }
        let text = reader.bytes();
        let number = reader.number(text, "a number")?;
        let value = match number.to_f32() {
            Some(value) => value,
            None => reader
                .slice(number.start, number.end)
                .parse()
                .unwrap_or(f32::INFINITY),
        };
        in_range(
            value.is_finite(),
            value,
            number.start,
            "a number in the range of FP32",
        )
    }
}

fn in_range<T>(fits: bool, value: T, at: usize, expected: &'static str) -> Result<T, Fault> {
    if fits {
        Ok(value)
    } else {
        Err(Fault::Unwanted { at, expected })
    }
}

macro_rules! integers {
    ($($type:ty, $expected:literal;)*) => {$(
        impl Scalar for $type {
            fn read(reader: &mut Reader<'_>) -> Result<$type, Fault> {
                reader.peek();
                let text = reader.bytes();
                let number = reader.number(text, $expected)?;
                let magnitude = if number.exact {
                    Some(i128::from(number.mantissa))
                } else {
                    // Twenty digits: `UINT64` alone has some.
                    reader.slice(number.start, number.end).trim_start_matches('-').parse().ok()
                };
                let value = magnitude
                    .filter(|_| number.integer)
                    .and_then(|magnitude| <$type>::try_from(if number.negative { -magnitude } else { magnitude }).ok());
                value.ok_or(Fault::Unwanted { at: number.start, expected: $expected })
            }
        }
    )*};
}

integers! {
    u8, "an integer from 0 to 255";
    u16, "an integer from 0 to 65535";
    u32, "an integer from 0 to 4294967295";
    u64, "an integer from 0 to 18446744073709551615";
    i8, "an integer from -128 to 127";
    i16, "an integer from -32768 to 32767";
    i32, "an integer from -2147483648 to 2147483647";
    i64, "an integer from -9223372036854775808 to 9223372036854775807";
}

/// `true`, `false`, and 0 and 1 as Triton accepts them.
impl Scalar for bool {
    fn read(reader: &mut Reader<'_>) -> Result<bool, Fault> {
        const EXPECTED: &str = "true, false, 0 or 1";
        match reader.peek() {
            Some(b't' | b'f') => reader.boolean(),
            Some(b'0' | b'1') => {
                let at = reader.at;
                match u64::read(reader) {
                    Ok(0) => Ok(false),
                    Ok(1) => Ok(true),
                    Ok(_) | Err(Fault::Unwanted { .. }) => Err(Fault::Unwanted {
                        at,
                        expected: EXPECTED,
                    }),
                    Err(fault) => Err(fault),
                }
            }
            _ => reader.unwanted(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T: Scalar>(text: &str) -> Result<T, Fault> {
        let mut reader = Reader::over(text, Mode::Strict);
        let value = T::read(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(read::<u8>("255"), Ok(255));
        assert!(read::<u8>("256").is_err());
        assert!(read::<u8>("-1").is_err());
        assert_eq!(read::<u8>("-0"), Ok(0));
        assert_eq!(read::<i64>("-9223372036854775808"), Ok(i64::MIN));
        assert!(read::<i64>("9223372036854775808").is_err());
        assert_eq!(read::<u64>("18446744073709551615"), Ok(u64::MAX));
        assert!(read::<u64>("18446744073709551616").is_err());
        assert!(read::<u64>(&"9".repeat(400)).is_err());
        assert!(read::<i32>("1.0").is_err());
        assert!(read::<i32>("1e2").is_err());
        assert!(read::<i32>("\"1\"").is_err());
    }

    #[test]
    fn booleans_are_words_or_zero_and_one() {
        assert_eq!(read::<bool>("true"), Ok(true));
        assert_eq!(read::<bool>("0"), Ok(false));
        assert_eq!(read::<bool>("1"), Ok(true));
        for bad in ["2", "10", "1.0", "null", "\"true\"", "-1", "tru"] {
            assert!(read::<bool>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn floats_out_of_range_are_refused_and_tiny_ones_round() {
        assert!(read::<f32>("3.5e38").is_err());
        assert!(read::<f64>("1e309").is_err());
        assert!(read::<f64>("1e999999999999999999999").is_err());
        assert_eq!(read::<f64>("1e-999999999999999999999"), Ok(0.0));
        assert_eq!(read::<f32>("1e-50"), Ok(0.0));
        assert_eq!(read::<f64>("-0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert_eq!(read::<f64>("-0.0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert!(read::<f64>("null").is_err());
    }

    #[test]
    fn non_finite_words_are_read_only_where_accepted() {
        let mut reader = Reader::over("[null,NaN,Infinity,-Infinity,-1]", Mode::Lenient);
        let mut array = reader.enter_array().unwrap();
        let mut values = Vec::new();
        while reader.next_element(&mut array).unwrap() {
            values.push(f32::read(&mut reader).unwrap());
        }
        assert!(values[0].is_nan() && values[1].is_nan());
        assert_eq!(values[2..], [f32::INFINITY, f32::NEG_INFINITY, -1.0]);
    }

    #[test]
    fn digits_end_at_the_first_byte_that_is_none() {
        for end in 0..=8 {
            for other in (0..=255).filter(|byte: &u8| !byte.is_ascii_digit()) {
                let mut eight = *b"90817263";
                for (at, byte) in eight.iter_mut().enumerate().skip(end) {
                    *byte = if at == end {
                        other
                    } else {
                        byte.wrapping_mul(other)
                    };
                }
                assert_eq!(leading_digits(u64::from_le_bytes(eight)), end, "{eight:?}");
            }
        }
    }

    #[test]
    fn midpoints_of_f32_round_as_the_standard_library_does() {
        for text in [
            "16777217",
            "16777217.000000001",
            "16777216.999999999",
            "1.00000005960464477539",
            "0.1",
            "8388608.5",
            "1.1754943e-38",
            "1.17549429e-38",
            "3.4028235e38",
            "9007199791611905.0",
        ] {
            assert_eq!(read::<f32>(text), Ok(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn numbers_are_those_of_the_standard_library(text in "-?(0|[1-9][0-9]{0,22})(\\.[0-9]{1,22})?([eE][+-]?[0-9]{1,2})?") {
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(read::<f64>(&text).ok().map(f64::to_bits), expected.is_finite().then(|| expected.to_bits()));
            let expected: f32 = text.parse().unwrap();
            prop_assert_eq!(read::<f32>(&text).ok().map(f32::to_bits), expected.is_finite().then(|| expected.to_bits()));
        }

        #[test]
        fn shortest_f32_texts_read_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let mut text = Vec::new();
            super::super::JsonFloat::write(value, &mut text);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(read::<f32>(&text).map(f32::to_bits), Ok(bits));
        }
    }
}
