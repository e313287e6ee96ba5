//! The instances of a service as last discovered, each with what is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::discovery::{Endpoint, Instance};

/// An instance that goes and comes back within this time is the same as before: a registry that drops one for a moment must
/// not wash it clean (Kong#5477).
const REMEMBERED: Duration = Duration::from_mins(5);
/// The most of them that are remembered, the latest to go first: a registry may change all of them each second.
const REMEMBERED_MAX: usize = 256;

/// The instances, in the order of discovery, each once.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Members {
    /// What it was made of, to see whether that has changed.
    source: Arc<[Instance]>,
    pub(super) list: Vec<Member>,
    gone: Vec<(Arc<Peer>, Instant)>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) peer: Arc<Peer>,
    pub(super) weight: f64,
}

impl Members {
    /// Whether these are the instances that it holds. A source that has not changed mostly gives the same list.
    pub(super) fn are(&self, instances: &Arc<[Instance]>) -> bool {
        Arc::ptr_eq(&self.source, instances) || self.source == *instances
    }

    /// The same for other instances: what is known of those that remain is kept.
    pub(super) fn become_these(&self, source: Arc<[Instance]>, now: Instant) -> Self {
        let remembered =
            || self.gone.iter().filter(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        let old = self.list.iter().map(|member| &member.peer).chain(remembered().map(|(peer, _)| peer));
        let mut old: BTreeMap<&Endpoint, &Arc<Peer>> = old.map(|peer| (&peer.endpoint, peer)).collect();
        // The first instances of all came with the start: none of them is new beside the others.
        let since = (!self.list.is_empty()).then_some(now);
        let mut list: Vec<Member> = Vec::with_capacity(source.len());
        let mut places: BTreeMap<&Endpoint, usize> = BTreeMap::new();
        for instance in source.iter() {
            let weight = f64::from(instance.weight.get());
            if let Some(member) = places.get(&instance.endpoint).and_then(|place| list.get_mut(*place)) {
                member.weight += weight;
                continue;
            }
            places.insert(&instance.endpoint, list.len());
            let known = old.remove(&instance.endpoint).cloned();
            if let Some(peer) = known.as_ref().filter(|peer| self.is_gone(peer)) {
                peer.came(now);
            }
            let peer = known.unwrap_or_else(|| Arc::new(Peer::new(instance.endpoint.clone(), since)));
            list.push(Member { peer, weight });
        }
        let remembered = remembered().filter(|(peer, _)| old.contains_key(&peer.endpoint));
        let left = self.list.iter().filter(|member| old.contains_key(&member.peer.endpoint));
        let left = left.map(|member| (member.peer.clone(), now));
        let gone = left.chain(remembered.cloned()).take(REMEMBERED_MAX).collect();
        Self { source, list, gone }
    }

    fn is_gone(&self, peer: &Arc<Peer>) -> bool {
        self.gone.iter().any(|(gone, _)| Arc::ptr_eq(gone, peer))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]
mod tests {
    use super::*;

    fn instances(ports: impl IntoIterator<Item = u32>) -> Arc<[Instance]> {
        let endpoint = |port| Instance::new(Endpoint::new(&format!("http://127.0.0.1:{port}")));
        ports.into_iter().map(endpoint).collect()
    }

    fn peer(members: &Members, place: usize) -> *const Peer {
        Arc::as_ptr(&members.list[place].peer)
    }

    #[test]
    fn what_is_known_of_those_that_remain_is_kept_when_others_come_and_go() {
        let now = Instant::now();
        let before = Members::default().become_these(instances([1, 2, 3]), now);
        let after = before.become_these(instances([4, 3, 1]), now);
        assert_eq!(peer(&before, 0), peer(&after, 2));
        assert_eq!(peer(&before, 2), peer(&after, 1));
        assert_eq!(after.list.len(), 3);
    }

    #[test]
    fn one_that_goes_for_a_moment_is_remembered_and_one_that_goes_for_long_is_not() {
        let now = Instant::now();
        let before = Members::default().become_these(instances([1, 2]), now);
        let gone = before.become_these(instances([2]), now);
        let soon = gone.become_these(instances([1, 2]), now + REMEMBERED / 2);
        assert_eq!(peer(&before, 0), peer(&soon, 0));
        for others in [[2], [3]] {
            let later = gone.become_these(instances(others), now + REMEMBERED / 2);
            let late = later.become_these(instances([1, 2]), now + REMEMBERED);
            assert_ne!(peer(&before, 0), peer(&late, 0), "{others:?}");
        }
    }

    #[test]
    fn however_many_come_and_go_few_are_remembered() {
        let now = Instant::now();
        let all = (0..20).fold(Members::default(), |members, round| {
            members.become_these(instances(round * 100..round * 100 + 100), now)
        });
        assert_eq!((all.list.len(), all.gone.len()), (100, REMEMBERED_MAX));
    }

    #[test]
    fn an_instance_that_is_listed_twice_is_one_with_both_weights() {
        let members = Members::default().become_these(instances([1, 2, 1]), Instant::now());
        let weights: Vec<f64> = members.list.iter().map(|member| member.weight).collect();
        assert_eq!(weights, [2.0, 1.0]);
    }
}
