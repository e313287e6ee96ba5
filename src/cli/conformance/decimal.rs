//! Decimal numbers as they are written, added up exactly.
//!
//! Amounts are money, stock or wei: a difference in the last digit is one. Only what was calculated with binary fractions
//! cannot be held to that. Such a number gives itself away by its length, as `99.80000000000001` does, and is counted with an
//! allowance, which sums carry along.

use std::fmt;

/// The most digits of one number. Sums of such numbers fit, but for absurd ones.
const DIGITS_MAX: usize = 30;

/// How many digits the shortest form of a binary fraction has that was calculated: fewer were written by somebody, and
/// more are no binary fraction.
const BINARY_DIGITS: std::ops::RangeInclusive<usize> = 16..=17;

/// A binary fraction has 52 bits; that each of 64 calculations was off by one unit of the last bit is allowed for.
const ALLOWANCE: i128 = 1 << (52 - 6);

/// A number, and by how much it may be off, both in units of the last of its digits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decimal {
    units: i128,
    allowance: i128,
    /// How many of its digits stand behind the point.
    scale: u32,
}

impl Decimal {
    pub(super) const ONE: Self = Self { units: 1, allowance: 0, scale: 0 };

    /// A number that is a number in JSON; `None` where it has too many digits.
    pub(super) fn of_number(text: &str) -> Option<Self> {
        let number = Self::of_text(text)?;
        let digits = number.units.to_string();
        let digits = digits.trim_start_matches('-').trim_end_matches('0').len();
        let is_binary = number.scale > 0 && BINARY_DIGITS.contains(&digits);
        let allowance = if is_binary { number.units.abs() / ALLOWANCE + 1 } else { 0 };
        Some(Self { allowance, ..number })
    }

    /// A number that is text in JSON, which is exact; `None` where it is none, or has too many digits.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (sign, mantissa) = match mantissa.strip_prefix('-') {
            Some(mantissa) => (-1, mantissa),
            None => (1, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let is_decimal = !whole.is_empty() && !mantissa.ends_with('.');
        if !is_decimal || digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let units = sign * digits.parse::<i128>().ok()?;
        let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
        let number = Self { units, allowance: 0, scale: u32::try_from(scale.max(0)).ok()? };
        let zeros = u32::try_from(scale.min(0).unsigned_abs()).ok()?;
        let digits_max = u32::try_from(DIGITS_MAX).ok()?;
        if number.scale > digits_max {
            return None;
        }
        Some(Self { units: units.checked_mul(10_i128.checked_pow(zeros)?)?, ..number })
    }

    /// Both together; `None` where that is too large.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let (one, other) = (self.at(scale)?, other.at(scale)?);
        Some(Self {
            units: one.units.checked_add(other.units)?,
            allowance: one.allowance.checked_add(other.allowance)?,
            scale,
        })
    }

    /// This less the other.
    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { units: -other.units, ..other })
    }

    /// So many of it.
    pub(super) fn times(self, times: u32) -> Option<Self> {
        let (units, allowance) =
            (self.units.checked_mul(times.into())?, self.allowance.checked_mul(times.into())?);
        Some(Self { units, allowance, ..self })
    }

    /// Whether it may be nothing.
    pub(super) fn is_nothing(self) -> bool {
        self.units.abs() <= self.allowance
    }

    fn at(self, scale: u32) -> Option<Self> {
        let factor = 10_i128.checked_pow(scale.checked_sub(self.scale)?)?;
        let (units, allowance) = (self.units.checked_mul(factor)?, self.allowance.checked_mul(factor)?);
        Some(Self { units, allowance, scale })
    }
}

/// Without the digits that are not certain.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut allowance) = (*self, self.allowance);
        while allowance > 0 && number.scale > 0 {
            // To the nearest, half away from nothing.
            let half = if allowance < 10 { 5 * number.units.signum() } else { 0 };
            number = Self { units: (number.units + half) / 10, scale: number.scale - 1, ..number };
            allowance /= 10;
        }
        let sign = if number.units < 0 { "-" } else { "" };
        let scale = usize::try_from(number.scale).unwrap_or_default();
        let digits = format!("{:0>width$}", number.units.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(numbers: &[&str]) -> String {
        let numbers = numbers.iter().map(|text| Decimal::of_number(text).unwrap());
        numbers.fold(Decimal::default(), |sum, number| sum.plus(number).unwrap()).to_string()
    }

    #[test]
    fn a_sum_is_exact_to_the_last_digit() {
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&["9007199254740993", "-1"]), "9007199254740992");
        assert_eq!(sum(&["1e-18", "5", "-2.5E1", "1e2"]), "80.000000000000000001");
        assert_eq!(sum(&["-0.5", "0.50"]), "0");
        assert_eq!(sum(&["-0.05"]), "-0.05");
    }

    #[test]
    fn a_binary_fraction_is_not_held_to_its_last_digit() {
        let of = |text| Decimal::of_number(text).unwrap();
        let change = of("99.80000000000001").minus(of("99.9")).unwrap();
        assert!(change.minus(of("-0.1")).unwrap().is_nothing());
        assert_eq!(change.to_string(), "-0.1");
        assert_eq!(of("-0.30000000000000004").to_string(), "-0.3");
        assert!(!of("99.80000000000001").minus(of("99.8000000001")).unwrap().is_nothing());
        let text = Decimal::of_text("99.80000000000001").unwrap().minus(of("99.8")).unwrap();
        assert!(!text.is_nothing(), "text is exact");
    }

    #[test]
    fn what_is_no_decimal_number_is_none() {
        for text in
            ["", "-", ".5", "5.", "1,000", "+1", "1e", "1.2.3", "0x10", "2026-11-30", " 1", "--1", "NaN"]
        {
            assert!(Decimal::of_text(text).is_none(), "{text}");
        }
        for large in ["1e99", "1e-99", "1e99999999999999999999", "1234567890123456789012345678901"] {
            assert!(Decimal::of_number(large).is_none(), "{large}");
        }
        let large = Decimal::of_number("1e38").unwrap();
        assert!(large.times(10).is_none() && large.plus(large).is_none());
        assert!(large.plus(Decimal::of_number("0.01").unwrap()).is_none());
    }
}
