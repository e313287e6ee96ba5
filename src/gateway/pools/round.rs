//! The tries of one request: which instance is next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::members::{Member, Members};
use super::peer::{Busy, Standing};
use super::pool::{Pool, lock};
use crate::balance::{Candidate, Choice, Policy, choose};

/// The instances that there were when the request came, and those of them that it has tried.
#[derive(Debug)]
pub(in crate::gateway) struct Round {
    members: Arc<Members>,
    tried: Vec<usize>,
}

/// An instance that may be asked, and its place among the members.
struct Open<'a> {
    place: usize,
    member: &'a Member,
    weight: f64,
}

impl Round {
    /// A request that may go to these.
    pub(in crate::gateway) fn of(members: Arc<Members>) -> Self {
        Self { members, tried: Vec::new() }
    }

    /// The next instance to ask; `None` where all have been tried.
    pub(in crate::gateway) fn next(&mut self, pool: &Pool, key: Option<u64>, now: Instant) -> Option<Busy> {
        let policy = pool.policy();
        let open = self.open(&policy, now);
        let mut candidates: Vec<Candidate> = open.iter().map(Open::candidate).collect();
        let choice = &policy.choice;
        let cost = |at: usize| open.get(at).map_or(f64::INFINITY, |open| open.cost(choice, now));
        let chosen = match choice {
            Choice::RoundRobin => {
                let _turns = lock(&pool.turns);
                for (candidate, open) in candidates.iter_mut().zip(&open) {
                    candidate.turn = open.member.peer.turn.load(Ordering::Relaxed);
                }
                let chosen = choose(choice, &mut candidates, key, cost, fastrand::f64);
                for (candidate, open) in candidates.iter().zip(&open) {
                    open.member.peer.turn.store(candidate.turn, Ordering::Relaxed);
                }
                chosen
            }
            Choice::LeastRequest | Choice::Latency | Choice::Hash(_) => {
                choose(choice, &mut candidates, key, cost, fastrand::f64)
            }
        };
        let open = open.get(chosen?)?;
        let (place, busy) = (open.place, open.member.peer.engage());
        self.tried.push(place);
        Some(busy)
    }

    /// Where each has had its try, all may be tried again.
    pub(in crate::gateway) fn begin_again_if_all_are_tried(&mut self) {
        if self.tried.len() >= self.members.list.len() {
            self.tried.clear();
        }
    }

    /// Those that may be asked: the usable ones; all, where too few of them are usable for that to be true; and at last
    /// those that are not usable, for they may be after all.
    fn open(&self, policy: &Policy, now: Instant) -> Vec<Open<'_>> {
        let is_panic = Self::is_panic(&self.members, policy, now);
        let untried = self.members.list.iter().enumerate().filter(|(place, _)| !self.tried.contains(place));
        let (mut usable, mut others) = (Vec::new(), Vec::new());
        for (place, member) in untried {
            let (standing, share) = member.peer.standing(policy, now);
            // A hash that changed with each second of a slow start would move keys twice.
            let share = if matches!(policy.choice, Choice::Hash(_)) { 1.0 } else { share };
            let open = Open { place, member, weight: member.weight * share };
            if is_panic || standing == Standing::Usable { usable.push(open) } else { others.push(open) }
        }
        if usable.is_empty() { others } else { usable }
    }

    /// Whether so few are usable that nobody is left out.
    pub(super) fn is_panic(members: &Members, policy: &Policy, now: Instant) -> bool {
        if policy.health.is_none() && policy.outlier.is_none() {
            return false;
        }
        let is_usable = |member: &&Member| member.peer.standing(policy, now).0 == Standing::Usable;
        let usable = members.list.iter().filter(is_usable).count();
        let all = members.list.len();
        all > 0 && (usable == 0 || usable * 100 < all * usize::from(policy.panic_percent))
    }
}

impl Open<'_> {
    fn candidate(&self) -> Candidate {
        Candidate { weight: self.weight, identity: self.member.peer.identity, turn: 0 }
    }

    fn cost(&self, choice: &Choice, now: Instant) -> f64 {
        match choice {
            Choice::Latency => self.member.peer.latency_cost(self.weight, now),
            Choice::RoundRobin | Choice::LeastRequest | Choice::Hash(_) => {
                let busy = u32::try_from(self.member.peer.busy()).map_or(f64::from(u32::MAX), f64::from);
                busy / self.weight
            }
        }
    }
}
