//! What active checks say of one instance.

use super::policy::HealthPolicy;

/// Whether an instance is well. It is until checks have said otherwise: a gateway that has just started knows of no
/// instance that it is ill, and to refuse every request until the first checks are back would make each start an outage.
#[derive(Debug, Clone, Default)]
pub struct Health {
    is_ill: bool,
    /// Checks in a row that spoke against what it is taken for.
    against: u16,
}

impl Health {
    /// A check was good or not. Says whether it is taken for another than before.
    pub fn checked(&mut self, is_good: bool, policy: &HealthPolicy) -> bool {
        if is_good != self.is_ill {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let enough = if self.is_ill { policy.healthy } else { policy.unhealthy };
        let is_turned = self.against >= enough;
        if is_turned {
            *self = Self { is_ill: !self.is_ill, against: 0 };
        }
        is_turned
    }

    /// Whether it is ill.
    #[must_use]
    pub fn is_ill(&self) -> bool {
        self.is_ill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_until_enough_checks_in_a_row_say_otherwise_and_the_other_way_round() {
        let policy = HealthPolicy::of("/health".to_owned());
        let mut health = Health::default();
        let said: Vec<bool> = "++--+---++-+-++"
            .chars()
            .map(|check| {
                health.checked(check == '+', &policy);
                health.is_ill()
            })
            .collect();
        let expected = "wwwwwwwiwwwwwww".chars().map(|letter| letter == 'i').collect::<Vec<_>>();
        // Three bad ones in a row make it ill at the eighth check; the second good one after it makes it well.
        assert_eq!(said[..8], expected[..8]);
        assert!(said[8] && !said[9], "one good check is not enough, two are");
        assert!(!said[10..].contains(&true), "single bad ones do not matter");
    }
}
