//! Whether a figure is level: the median of the last third of the run may exceed that of the middle third by a few parts of a hundred
//! and a constant, and no more. The medians do not mind a peak, and every leak that matters shows in ten minutes.

use std::fmt::{self, Display};

use super::sample::{SERIES, Sample};

/// How much more each figure may be at the end, in parts of it and beside that.
///
/// In the order of [`SERIES`]. Memory: at a hundred transactions a second, 2 MiB and 5 % of 40 are 70 bytes a transaction. Disk: one
/// segment of sled. The others: what comes and goes with a few connections and a bank that is down just then.
const SLACK: [(f64, f64); SERIES.len()] =
    [(1.05, 2.0), (1.10, 8.0), (1.05, 8.0), (1.00, 2.0), (1.05, 16.0), (1.25, 8.0), (f64::INFINITY, 0.0)];

/// The part of its speed that must be left at the end.
const SPEED: f64 = 0.85;

/// So many samples make a third that can be judged.
const ENOUGH: usize = 5;

/// What each figure was in the middle third and in the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    levels: Vec<Level>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
struct Level {
    name: &'static str,
    middle: f64,
    last: f64,
    /// The least and the most that `last` may be.
    between: (f64, f64),
}

impl Levels {
    /// Compares the thirds; an error where there are too few samples to say anything.
    pub fn of(samples: &[Sample]) -> Result<Self, String> {
        let end = samples.last().map(|sample| sample.at).unwrap_or_default();
        let third = |number: u32| {
            let within =
                |sample: &&Sample| sample.at > end * (number - 1) / 3 && sample.at <= end * number / 3;
            samples.iter().filter(within).collect::<Vec<_>>()
        };
        let (middle, last) = (third(2), third(3));
        if middle.len().min(last.len()) < ENOUGH {
            return Err(format!("{} samples are too few to say whether anything is level", samples.len()));
        }
        let levels = SERIES.iter().zip(SLACK).map(|(series, (times, plus))| {
            let [middle, last] = [&middle, &last].map(|third| median(third.iter().map(|s| (series.of)(s))));
            let slowest = if times.is_infinite() { middle * SPEED } else { 0.0 };
            Level { name: series.name, middle, last, between: (slowest, middle * times + plus) }
        });
        Ok(Self { levels: levels.collect() })
    }

    /// Every figure that is not level, in a sentence.
    pub fn problems(&self) -> Vec<String> {
        let outside = self.levels.iter().filter(|level| !level.holds());
        outside
            .map(|level| {
                let Level { name, middle, last, between: (least, most) } = level;
                format!(
                    "{name} is not level: {middle:.1}, then {last:.1}, where {least:.1} to {most:.1} may be"
                )
            })
            .collect()
    }
}

impl Level {
    fn holds(&self) -> bool {
        let (least, most) = self.between;
        (least..=most).contains(&self.last)
    }
}

impl Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:20} {:>12} {:>12} {:>12}", "median", "middle third", "last third", "may be")?;
        for Level { name, middle, last, between: (least, most) } in &self.levels {
            let bound = if most.is_finite() { format!("{most:.1}") } else { format!("{least:.1} or more") };
            writeln!(f, "{name:20} {middle:>12.1} {last:>12.1} {bound:>12}")?;
        }
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sample::Reading;
    use super::*;

    /// Half an hour of samples, of which `change` makes what it wants; at rest, memory is 40 and descriptors are 50.
    fn half_an_hour(change: impl Fn(f64, &mut Sample)) -> Vec<Sample> {
        let sample = |number: u32| {
            let at = Duration::from_secs(5) * number;
            let reading = Reading { memory: 40.0, descriptors: 50.0, disk: 100.0, ..Reading::default() };
            let mut sample = Sample { at, kills: 0, reading, requests_per_second: 200.0 };
            change(at.as_secs_f64() / 1_800.0, &mut sample);
            sample
        };
        (1..=360).map(sample).collect()
    }

    fn problems(change: impl Fn(f64, &mut Sample)) -> Vec<String> {
        Levels::of(&half_an_hour(change)).unwrap().problems()
    }

    #[test]
    fn a_figure_that_stays_is_level_whatever_it_was_in_the_first_third_and_at_its_peaks() {
        assert_eq!(problems(|_, _| ()), [""; 0]);
        let first_third = |part: f64, sample: &mut Sample| {
            sample.reading.memory = if part < 0.3 { 10.0 + 200.0 * part } else { 40.0 };
        };
        assert_eq!(problems(first_third), [""; 0]);
        let peaks = |part: f64, sample: &mut Sample| {
            if (part * 360.0) % 10.0 < 2.0 {
                sample.reading.descriptors = 400.0;
            }
        };
        assert_eq!(problems(peaks), [""; 0]);
    }

    #[test]
    fn a_figure_that_rises_is_not_level() {
        // 15 MiB in half an hour, 85 bytes for each of its 180,000 transactions.
        let leak = problems(|part, sample| sample.reading.memory += 15.0 * part);
        assert!(leak.len() == 1 && leak[0].contains("memory_mib is not level"), "{leak:?}");
        let descriptors = problems(|part, sample| sample.reading.descriptors += 60.0 * part);
        assert!(descriptors.len() == 1 && descriptors[0].contains("descriptors"), "{descriptors:?}");
        let all = problems(|part, sample| {
            let Reading { disk, threads, tasks, in_doubt, .. } = &mut sample.reading;
            (*disk, *threads, *tasks, *in_doubt) = (100.0 * part, 20.0 * part, 300.0 * part, 90.0 * part);
        });
        assert_eq!(all.len(), 4, "{all:?}");
    }

    #[test]
    fn a_gateway_that_becomes_slower_is_not_level() {
        let slower = problems(|part, sample| sample.requests_per_second -= 120.0 * part);
        assert!(slower.len() == 1 && slower[0].contains("requests_per_second"), "{slower:?}");
    }

    #[test]
    fn a_few_samples_are_no_verdict() {
        assert!(Levels::of(&half_an_hour(|_, _| ())[..12]).is_err());
        assert!(Levels::of(&[]).is_err());
    }
}
