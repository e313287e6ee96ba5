//! What a participant shows of its work, as numbers that add up: whether a commit was done once can only be seen there.
//!
//! Nothing is known of the JSON. Two usual transactions and one that is aborted are watched. What the two change alike, and
//! the aborted one does not change, is the unit: after that, two confirmed commits have to change it by twice the unit,
//! whatever was repeated on the way. A clock, an id or a counter of requests is left out by that.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Numbers by place in the JSON; places in a list are one: `/accounts/*/balance`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown(BTreeMap<String, Sum>);

/// What is at one place.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    /// How many values.
    count: f64,
    /// All numbers among them together.
    total: f64,
}

/// The change by one transaction, of all that changes alike.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit(BTreeMap<String, Sum>);

impl Shown {
    /// Reads an answer.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("what it shows is no JSON: {error}"))?;
        let mut shown = Self::default();
        shown.add(String::new(), &value);
        Ok(shown)
    }

    fn add(&mut self, place: String, value: &Value) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| self.add(format!("{place}/{name}"), value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(format!("{place}/*"), item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let sum = self.0.entry(place).or_default();
                sum.count += 1.0;
                sum.total += value.as_f64().unwrap_or_default();
            }
        }
    }

    /// What has changed since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let places = self.0.keys().chain(before.0.keys());
        Self(places.map(|place| (place.clone(), self.at(place).plus(before.at(place), -1.0))).collect())
    }

    /// This change and another one.
    pub(super) fn and(&self, other: &Self) -> Self {
        let places = self.0.keys().chain(other.0.keys());
        Self(places.map(|place| (place.clone(), self.at(place).plus(other.at(place), 1.0))).collect())
    }

    fn at(&self, place: &str) -> Sum {
        self.0.get(place).copied().unwrap_or_default()
    }
}

impl Unit {
    /// What two changes by one usual transaction each have in common, and an aborted one does not change; `None` where
    /// that is nothing.
    pub(super) fn of(one: &Shown, other: &Shown, aborted: &Shown) -> Option<Self> {
        let is_alike = |(place, sum): &(&String, &Sum)| {
            other.at(place).is_about(**sum) && aborted.at(place).is_about(Sum::default())
        };
        let alike = one.0.iter().filter(is_alike);
        let unit: BTreeMap<_, _> = alike.map(|(place, sum)| (place.clone(), *sum)).collect();
        let changes = unit.values().any(|sum| !sum.is_about(Sum::default()));
        changes.then_some(Self(unit))
    }

    /// What is wrong with `change` where `times` transactions were committed.
    pub(super) fn blame(&self, change: &Shown, times: u32) -> Option<String> {
        let times = f64::from(times);
        let (place, unit) = self
            .0
            .iter()
            .find(|(place, unit)| !change.at(place).is_about(Sum::default().plus(**unit, times)))?;
        let found = change.at(place);
        let (what, found, expected) = if (found.total - unit.total * times).abs() > TOLERANCE {
            ("", found.total, unit.total * times)
        } else {
            ("the number of values at ", found.count, unit.count * times)
        };
        let place = if place.is_empty() { "/" } else { place };
        Some(format!("{what}`{place}` changed by {}, and not by {}", Plain(found), Plain(expected)))
    }
}

/// A number without the dust of binary fractions.
struct Plain(f64);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.6}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Money is often written as a fraction, which no binary number is.
const TOLERANCE: f64 = 1e-6;

impl Sum {
    fn plus(self, other: Self, times: f64) -> Self {
        Self { count: self.count + other.count * times, total: self.total + other.total * times }
    }

    fn is_about(self, other: Self) -> bool {
        (self.count - other.count).abs() < TOLERANCE && (self.total - other.total).abs() < TOLERANCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> Shown {
        Shown::parse(after).unwrap().since(&Shown::parse(before).unwrap())
    }

    fn unit(first: &str, second: &str, third: &str) -> Option<Unit> {
        Unit::of(&change(first, second), &change(second, third), &change("{}", "{}"))
    }

    #[test]
    fn a_balance_is_counted_in_units() {
        let unit = unit(r#"{"a":100,"b":7}"#, r#"{"a":99.9,"b":7}"#, r#"{"a":99.8,"b":7}"#).unwrap();
        assert_eq!(unit.blame(&change(r#"{"a":3,"b":7}"#, r#"{"a":2.8,"b":7}"#), 2), None);
        let twice = unit.blame(&change(r#"{"a":1,"b":7}"#, r#"{"a":0.75,"b":7}"#), 1).unwrap();
        assert_eq!(twice, "`/a` changed by -0.25, and not by -0.1");
        assert!(unit.blame(&change(r#"{"a":3,"b":7}"#, r#"{"a":3,"b":8}"#), 0).is_some(), "b was steady");
    }

    #[test]
    fn a_list_of_entries_is_counted_whatever_its_order() {
        let unit = unit("[]", r#"[{"sum":5}]"#, r#"[{"sum":5},{"sum":5}]"#).unwrap();
        let none = change(r#"[{"sum":5},{"sum":9}]"#, r#"[{"sum":9},{"sum":5}]"#);
        assert_eq!(unit.blame(&none, 0), None);
        assert!(unit.blame(&none, 1).is_some());
    }

    #[test]
    fn what_changes_by_itself_is_left_out() {
        let unit = unit(r#"{"a":3,"at":10}"#, r#"{"a":2,"at":17}"#, r#"{"a":1,"at":19}"#).unwrap();
        assert_eq!(unit.blame(&change(r#"{"a":1,"at":20}"#, r#"{"a":1,"at":90}"#), 0), None);
    }

    #[test]
    fn what_an_abort_changes_too_is_left_out() {
        let one = change(r#"{"a":3,"calls":10}"#, r#"{"a":2,"calls":13}"#);
        let aborted = change(r#"{"a":2,"calls":16}"#, r#"{"a":2,"calls":19}"#);
        let unit = Unit::of(&one, &one, &aborted).unwrap();
        assert_eq!(unit.blame(&change(r#"{"a":1,"calls":20}"#, r#"{"a":1,"calls":90}"#), 0), None);
    }

    #[test]
    fn what_shows_no_change_is_no_unit() {
        assert_eq!(unit("{}", "{}", "{}"), None);
        assert_eq!(unit(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":4}"#), None);
    }
}
