//! The services that one route forwards to, each with its share of the requests.

/// One service or several, chosen between by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    shares: Vec<(String, u32)>,
    total: u64,
}

/// Why services cannot share requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// None, or too many.
    #[error("{0} services share the requests; write 1 to {max}", max = Split::SERVICES_MAX)]
    Count(usize),
    /// Nobody would get any.
    #[error("every weight is 0, so that no service would get a request; give one a weight")]
    NoWeight,
}

impl Split {
    /// As many as a transaction may have branches; each request looks at all of them.
    pub const SERVICES_MAX: usize = 64;

    /// All requests for one service.
    #[must_use]
    pub fn one(service: String) -> Self {
        Self { shares: vec![(service, 1)], total: 1 }
    }

    /// Requests for these services, in the proportion of their weights.
    pub fn new(shares: Vec<(String, u32)>) -> Result<Self, SplitError> {
        if shares.is_empty() || shares.len() > Self::SERVICES_MAX {
            return Err(SplitError::Count(shares.len()));
        }
        match shares.iter().map(|(_, weight)| u64::from(*weight)).sum() {
            0 => Err(SplitError::NoWeight),
            total => Ok(Self { shares, total }),
        }
    }

    /// The services and their weights, in declared order.
    pub fn shares(&self) -> impl Iterator<Item = (&str, u32)> {
        self.shares.iter().map(|(service, weight)| (service.as_str(), *weight))
    }

    /// The part of all requests that a weight stands for, from 0 to 100.
    #[must_use]
    pub fn percent(&self, weight: u32) -> u64 {
        (u64::from(weight) * 100 + self.total / 2) / self.total
    }

    /// The service that gets this request.
    #[must_use]
    pub fn pick(&self, chance: &mut fastrand::Rng) -> &str {
        let mut left = if self.shares.len() == 1 { 0 } else { chance.u64(0..self.total) };
        let mut shares = self.shares.iter();
        let drawn = shares.find(|(_, weight)| {
            let is_drawn = left < u64::from(*weight);
            left = left.saturating_sub(u64::from(*weight));
            is_drawn
        });
        drawn.map(|(service, _)| service.as_str()).expect("what is drawn is less than the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weights: &[u32]) -> Split {
        let shares = weights.iter().enumerate().map(|(nth, weight)| (nth.to_string(), *weight));
        Split::new(shares.collect()).unwrap()
    }

    /// How many of `requests` each service gets.
    fn counted(split: &Split, requests: u32) -> Vec<u32> {
        let mut chance = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; split.shares.len()];
        for _ in 0..requests {
            counts[split.pick(&mut chance).parse::<usize>().unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn requests_are_shared_by_weight() {
        let counts = counted(&split(&[90, 9, 1]), 100_000);
        // Three standard deviations of 100,000 draws are 285, 272 and 94.
        let is_near = |count: u32, expected: u32, margin| count.abs_diff(expected) <= margin;
        let shares = is_near(counts[0], 90_000, 285) && is_near(counts[1], 9_000, 272);
        assert!(shares && is_near(counts[2], 1_000, 94), "{counts:?}");
    }

    #[test]
    fn a_weight_of_nothing_gets_nothing() {
        assert_eq!(counted(&split(&[0, 5, 0]), 1_000), [0, 1_000, 0]);
        assert_eq!(counted(&Split::one("0".to_owned()), 10), [10]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let counts = counted(&split(&[u32::MAX; 64]), 6_400);
        assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
        assert_eq!(split(&[u32::MAX; 64]).percent(u32::MAX), 2);
    }

    #[test]
    fn what_nobody_could_serve_is_refused() {
        assert_eq!(Split::new(Vec::new()), Err(SplitError::Count(0)));
        assert_eq!(Split::new(vec![("a".to_owned(), 0)]), Err(SplitError::NoWeight));
        assert_eq!(Split::new(vec![("a".to_owned(), 1); 65]), Err(SplitError::Count(65)));
    }
}
