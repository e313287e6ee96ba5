//! Decimal numbers as they are written, added up exactly.
//!
//! Amounts are money, stock or wei: a difference in the last digit is one. Only what was calculated with binary fractions
//! cannot be held to that. Such a number gives itself away by its length, as `99.80000000000001` does, and is counted with an
//! allowance, which sums carry along.

use std::fmt;
use std::ops::RangeInclusive;

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Number;

/// How many digits the shortest form of a binary fraction has that was calculated: fewer were written by somebody, and
/// more are no binary fraction.
const BINARY_DIGITS: RangeInclusive<usize> = 16..=17;

/// A binary fraction has 52 bits; that each of 64 calculations was off by one unit of the last bit is allowed for.
const ALLOWANCE: i128 = 1 << (52 - 6);

/// A number, and by how much it may be off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    value: Decimal,
    allowance: Decimal,
}

impl Amount {
    pub(super) const ONE: Self = Self { value: Decimal::ONE, allowance: Decimal::ZERO };

    /// A number that is a number in JSON; `None` where it has more digits than 28.
    pub(super) fn of_number(text: &str) -> Option<Self> {
        let Self { value, .. } = Self::of_text(text)?;
        let (units, scale) = (value.normalize().mantissa().abs(), value.normalize().scale());
        let is_binary = scale > 0 && BINARY_DIGITS.contains(&units.to_string().len());
        let allowance = if is_binary {
            Decimal::from_i128_with_scale(units / ALLOWANCE + 1, scale)
        } else {
            Decimal::ZERO
        };
        Some(Self { value, allowance })
    }

    /// A number that is text in JSON, which is exact; `None` where it is none, or has more digits than 28.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let is_number = text.trim() == text && serde_json::from_str::<Number>(text).is_ok();
        let parsed = if text.contains(['e', 'E']) {
            Decimal::from_scientific(text)
        } else {
            Decimal::from_str_exact(text)
        };
        let value = parsed.ok().filter(|_| is_number)?;
        Some(Self { value, allowance: Decimal::ZERO })
    }

    /// Both together; `None` where that is too large.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let (value, allowance) =
            (exact_sum(self.value, other.value)?, exact_sum(self.allowance, other.allowance)?);
        Some(Self { value, allowance })
    }

    /// This less the other.
    pub(super) fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { value: -other.value, ..other })
    }

    /// So many of it.
    pub(super) fn times(self, times: u32) -> Option<Self> {
        let times = Decimal::from(times);
        let (value, allowance) = (self.value.checked_mul(times)?, self.allowance.checked_mul(times)?);
        Some(Self { value, allowance })
    }

    /// Whether it may be nothing.
    pub(super) fn is_nothing(self) -> bool {
        self.value.abs() <= self.allowance
    }
}

/// `None` also where the sum would have to be rounded.
fn exact_sum(one: Decimal, other: Decimal) -> Option<Decimal> {
    one.checked_add(other).filter(|sum| sum.scale() == one.scale().max(other.scale()))
}

/// Without the digits that are not certain.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uncertain =
            if self.allowance.is_zero() { 0 } else { self.allowance.mantissa().to_string().len() };
        let certain = self.value.scale().saturating_sub(u32::try_from(uncertain).unwrap_or(u32::MAX));
        let rounded = self.value.round_dp_with_strategy(certain, RoundingStrategy::MidpointAwayFromZero);
        write!(f, "{}", rounded.normalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(numbers: &[&str]) -> String {
        let numbers = numbers.iter().map(|text| Amount::of_number(text).unwrap());
        numbers.fold(Amount::default(), |sum, number| sum.plus(number).unwrap()).to_string()
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
        let of = |text| Amount::of_number(text).unwrap();
        let change = of("99.80000000000001").minus(of("99.9")).unwrap();
        assert!(change.minus(of("-0.1")).unwrap().is_nothing());
        assert_eq!(change.to_string(), "-0.1");
        assert_eq!(of("-0.30000000000000004").to_string(), "-0.3");
        assert!(!of("99.80000000000001").minus(of("99.8000000001")).unwrap().is_nothing());
        let text = Amount::of_text("99.80000000000001").unwrap().minus(of("99.8")).unwrap();
        assert!(!text.is_nothing(), "text is exact");
    }

    #[test]
    fn what_is_no_decimal_number_is_none() {
        for text in
            ["", "-", ".5", "5.", "1,000", "+1", "1e", "1.2.3", "0x10", "2026-11-30", " 1", "--1", "NaN"]
        {
            assert!(Amount::of_text(text).is_none(), "{text}");
        }
        for large in ["1e99", "1e-99", "1e99999999999999999999", "1234567890123456789012345678901"] {
            assert!(Amount::of_number(large).is_none(), "{large}");
        }
        let large = Amount::of_number("7e28").unwrap();
        assert!(large.times(10).is_none() && large.plus(large).is_none());
        assert!(large.plus(Amount::of_number("0.01").unwrap()).is_none());
    }
}
