//! What a participant shows of its work, as numbers that add up: whether a commit was done once can only be seen there.
//!
//! Nothing is known of the JSON. Two usual transactions and one that is aborted are watched. What the two change alike, and
//! the aborted one does not change, is the unit: after that, two confirmed commits have to change it by twice the unit,
//! whatever was repeated on the way. A clock, an id or a counter of requests is left out by that. Numbers are compared as
//! they are written, also where they are text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::amount::Amount;

/// What is shown, or by how much that changed, by place in the JSON; places in a list are one: `/accounts/*/balance`. `None` is
/// more than can be counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown(BTreeMap<Place, Option<Amount>>);

/// A place, and what is counted there.
type Place = (String, Measure);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    /// All numbers together, those that are text as well.
    Total,
    /// How many values, whatever they are.
    Count,
}

/// The change by one transaction, of all that changes alike.
#[derive(Debug, Clone)]
pub(super) struct Unit(BTreeMap<Place, Amount>);

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
        let total = match value {
            Value::Object(members) => {
                return members.iter().for_each(|(name, value)| self.add(format!("{place}/{name}"), value));
            }
            Value::Array(items) => {
                return items.iter().for_each(|item| self.add(format!("{place}/*"), item));
            }
            Value::Number(number) => Some(Amount::of_number(&number.to_string())),
            // Among words, what looks like a number is one of them: `12e3` and `48213377` may be ids.
            Value::String(text) => Some(Amount::of_text(text)),
            Value::Null | Value::Bool(_) => None,
        };
        if let Some(total) = total {
            self.raise((place.clone(), Measure::Total), total);
        }
        self.raise((place, Measure::Count), Some(Amount::ONE));
    }

    fn raise(&mut self, place: Place, by: Option<Amount>) {
        let sum = self.0.entry(place).or_insert(Some(Amount::default()));
        *sum = sum.zip(by).and_then(|(sum, by)| sum.plus(by));
    }

    /// What has changed since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        self.with(before, Amount::minus)
    }

    /// This change and another one.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.with(other, Amount::plus)
    }

    fn with(&self, other: &Self, sum: fn(Amount, Amount) -> Option<Amount>) -> Self {
        let places = self.0.keys().chain(other.0.keys());
        let sum = |place| self.at(place).zip(other.at(place)).and_then(|(one, other)| sum(one, other));
        Self(places.map(|place| (place.clone(), sum(place))).collect())
    }

    fn at(&self, place: &Place) -> Option<Amount> {
        self.0.get(place).copied().unwrap_or(Some(Amount::default()))
    }
}

impl Unit {
    /// What two changes by one usual transaction each have in common, and an aborted one does not change; a sentence where
    /// that is nothing.
    pub(super) fn of(one: &Shown, other: &Shown, aborted: &Shown) -> Result<Self, String> {
        let alike = one.0.iter().filter_map(|(place, change)| {
            let change = (*change)?;
            let is_alike = change.minus(other.at(place)?)?.is_nothing() && aborted.at(place)?.is_nothing();
            is_alike.then(|| (place.clone(), change))
        });
        let unit: BTreeMap<_, _> = alike.collect();
        let is_steady = |change: &Shown| change.0.values().all(|sum| sum.is_none_or(Amount::is_nothing));
        let why_not = if unit.values().any(|change| !change.is_nothing()) {
            return Ok(Self(unit));
        } else if is_steady(one) && is_steady(other) {
            "two transactions were committed, and what it shows is what it was: it does not do the work, or --look is not \
             where that is seen"
        } else {
            "two transactions with the same work do not change what it shows in the same way: somebody else may be at work \
             there, or it shows its work late (--look-after)"
        };
        Err(why_not.to_owned())
    }

    /// The change by so many transactions.
    pub(super) fn of_commits(&self, times: u32) -> Shown {
        Shown(self.0.iter().map(|(place, unit)| (place.clone(), unit.times(times))).collect())
    }

    /// What is wrong with `change` where `times` transactions were committed.
    pub(super) fn blame(&self, change: &Shown, times: u32) -> Option<String> {
        self.0.iter().find_map(|(place, unit)| {
            let (found, expected) = (change.at(place)?, unit.times(times)?);
            if found.minus(expected)?.is_nothing() {
                return None;
            }
            let (what, place) = match place {
                (place, Measure::Total) => ("", place.as_str()),
                (place, Measure::Count) => ("the number of values at ", place.as_str()),
            };
            let place = if place.is_empty() { "/" } else { place };
            Some(format!("{what}`{place}` changed by {found}, and not by {expected}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> Shown {
        Shown::parse(after).unwrap().since(&Shown::parse(before).unwrap())
    }

    fn unit(first: &str, second: &str, third: &str) -> Option<Unit> {
        Unit::of(&change(first, second), &change(second, third), &change("{}", "{}")).ok()
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
    fn the_smallest_amounts_and_the_largest_are_counted_to_the_last_digit() {
        let small = unit(r#"{"a":0}"#, r#"{"a":1e-8}"#, r#"{"a":0.00000002}"#).unwrap();
        let twice = small.blame(&change(r#"{"a":0.00000002}"#, r#"{"a":0.00000004}"#), 1).unwrap();
        assert_eq!(twice, "`/a` changed by 0.00000002, and not by 0.00000001");
        let large = unit("[90071992547409930]", "[90071992547409931]", "[90071992547409932]").unwrap();
        assert!(large.blame(&change("[90071992547409932]", "[90071992547409934]"), 1).is_some());
    }

    #[test]
    fn amounts_that_are_text_are_counted() {
        let unit = unit(r#"{"a":"100.00"}"#, r#"{"a":"99.90"}"#, r#"{"a":"99.80"}"#).unwrap();
        let twice = unit.blame(&change(r#"{"a":"99.80"}"#, r#"{"a":"99.60"}"#), 1).unwrap();
        assert_eq!(twice, "`/a` changed by -0.2, and not by -0.1");
        assert_eq!(unit.blame(&change(r#"{"a":"99.80"}"#, r#"{"a":"99.70"}"#), 1), None);
    }

    #[test]
    fn a_balance_in_binary_fractions_is_counted() {
        let unit = unit(r#"{"a":100}"#, r#"{"a":99.9}"#, r#"{"a":99.80000000000001}"#).unwrap();
        assert_eq!(unit.blame(&change(r#"{"a":99.4}"#, r#"{"a":99.30000000000001}"#), 1), None);
        let twice = unit.blame(&change(r#"{"a":99.4}"#, r#"{"a":99.20000000000002}"#), 1).unwrap();
        assert_eq!(twice, "`/a` changed by -0.2, and not by -0.1");
    }

    #[test]
    fn entries_with_ids_are_counted_though_the_ids_are_numbers() {
        let unit = unit("[]", r#"[{"id":7}]"#, r#"[{"id":7},{"id":"9"}]"#).unwrap();
        let two = change("[]", r#"[{"id":11},{"id":12}]"#);
        assert_eq!(
            unit.blame(&two, 1).unwrap(),
            "the number of values at `/*/id` changed by 2, and not by 1"
        );
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
    fn what_shows_no_change_is_told_from_what_changes_by_itself() {
        let (none, one, two) = (change("{}", "{}"), change("[1]", "[2]"), change("[1]", "[3]"));
        assert!(Unit::of(&none, &none, &none).unwrap_err().contains("does not do the work"));
        assert!(Unit::of(&one, &two, &none).unwrap_err().contains("--look-after"));
    }

    #[test]
    fn what_shows_no_change_is_no_unit() {
        assert!(unit("{}", "{}", "{}").is_none());
        assert!(unit(r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":4}"#).is_none());
    }
}
