//! The mistakes found so far, and the checks that many values share.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;

use super::error::Mistake;
use super::file::Time;
use super::source::Source;

/// A mistake was found here and has been noted; there is nothing to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted;

/// Collects mistakes, so that an operator sees them all at once.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    source: &'a Source<'a>,
    found: Vec<(usize, String)>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, found: Vec::new() }
    }

    pub(super) fn source(&self) -> &'a Source<'a> {
        self.source
    }

    pub(super) fn add(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.found.push((at.start, message.into()));
    }

    /// Notes a mistake that leaves nothing to go on with.
    pub(super) fn refuse<T>(&mut self, at: &Range<usize>, message: impl Into<String>) -> Result<T, Noted> {
        self.add(at, message);
        Err(Noted)
    }

    /// The value, or its error noted; `what` says what the value is for.
    pub(super) fn keep<T, E: Display>(
        &mut self,
        at: &Range<usize>,
        what: &str,
        result: Result<T, E>,
    ) -> Result<T, Noted> {
        result.or_else(|error| self.refuse(at, format!("{what}: {error}")))
    }

    /// A duration within bounds; `default` where none is given.
    pub(super) fn time(
        &mut self,
        given: Option<&Spanned<Time>>,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(given) = given else { return default };
        let time = given.get_ref().0;
        if !bounds.contains(&time) {
            let (least, most) = (human(*bounds.start()), human(*bounds.end()));
            let time = human(time);
            self.add(
                &given.span(),
                format!("{time} is out of bounds; write a duration from {least} to {most}"),
            );
        }
        time
    }

    /// Refuses a time that grows from a first to a longest one, where the first is longer. Each comes as it is written, as it is
    /// meant, and with its key.
    pub(super) fn growing(
        &mut self,
        (first, least, name): (Option<&Spanned<Time>>, Duration, &str),
        (longest, most, name_max): (Option<&Spanned<Time>>, Duration, &str),
    ) {
        if most >= least {
            return;
        }
        let most = human(most);
        let message = match longest {
            Some(_) => {
                format!("the longest time is shorter than the first; make `{name_max}` at least `{name}`")
            }
            None => format!(
                "the first time is longer than the longest, {most} where `{name_max}` is left out; make it shorter, or add \
                 `{name_max}`"
            ),
        };
        self.add(&longest.or(first).map_or(0..0, Spanned::span), message);
    }

    /// A number within bounds; `default` where none is given.
    pub(super) fn number(
        &mut self,
        given: Option<&Spanned<u64>>,
        default: usize,
        bounds: RangeInclusive<usize>,
    ) -> usize {
        let Some(given) = given else { return default };
        let number = usize::try_from(*given.get_ref()).unwrap_or(usize::MAX);
        if !bounds.contains(&number) {
            let (least, most) = (bounds.start(), bounds.end());
            let message = format!("{number} is out of bounds; write a number from {least} to {most}");
            self.add(&given.span(), message);
        }
        number
    }

    /// All mistakes, in the order of the file, those of variables last.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.found.sort();
        let mistake = |(at, message)| Mistake { place: self.source.place(at), message };
        self.found.into_iter().map(mistake).collect()
    }
}

/// No key is longer, and what is longer by far is like none: the beginning says as much, for less.
const COMPARED_MAX: usize = 64;

/// The known name that is most like `name`: one with the same first word, which is what people remember, and of those the nearest.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(COMPARED_MAX).flat_map(char::to_lowercase).collect();
    let first = |text: &str| text.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    let begins = first(&name);
    known
        .into_iter()
        .min_by_key(|known| (first(known) != begins, strsim::osa_distance(&name, &known.to_lowercase())))
}

fn human(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}
