//! What holds of a service and its instances, whatever they answer.
#![expect(clippy::disallowed_methods, reason = "the tests need some moment to begin with")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::pool::lock;
use super::{Pool, Reading, Round, Shed, Standing, Went};
use crate::balance::{Choice, HashOn, HealthPolicy, LimitPolicy, OutlierPolicy, Policy, Reason};
use crate::discovery::{Endpoint, Instance};

const SECOND: Duration = Duration::from_secs(1);

fn instances(count: usize) -> Arc<[Instance]> {
    (0..count).map(|place| Instance::new(Endpoint::new(&format!("http://10.0.0.{place}")))).collect()
}

fn pool(policy: Policy) -> Arc<Pool> {
    Arc::new(Pool::new("s", Arc::new(policy)))
}

fn ejecting(choice: Choice) -> Policy {
    let outlier = OutlierPolicy { consecutive: 2, base_time: 5 * SECOND, ..OutlierPolicy::default() };
    Policy { choice, outlier: Some(outlier), ..Policy::default() }
}

fn count(reading: &Reading, standing: Standing) -> usize {
    reading.instances.iter().filter(|instance| instance.standing == standing).count()
}

#[test]
fn every_instance_has_one_try_and_those_that_are_ejected_come_last() {
    let (pool, now) = (pool(ejecting(Choice::RoundRobin)), Instant::now());
    let members = pool.members(instances(4), now);
    let mut round = Round::of(members.clone());
    let first = round.next(&pool, None, now).unwrap().peer().clone();
    for _ in 0..2 {
        pool.tried(&first, Went::Failed, SECOND, now);
    }
    let mut round = Round::of(members);
    let order: Vec<_> = std::iter::from_fn(|| round.next(&pool, None, now)).collect();
    assert_eq!(order.len(), 4);
    assert!(Arc::ptr_eq(order[3].peer(), &first));
}

#[test]
fn an_instance_that_is_ejected_counts_for_the_cap_although_its_checks_are_bad_too() {
    let health = HealthPolicy { unhealthy: 1, ..HealthPolicy::of("/".to_owned()) };
    let policy = Policy { health: Some(health), ..ejecting(Choice::RoundRobin) };
    let (pool, now) = (pool(policy), Instant::now());
    let members = pool.members(instances(4), now);
    let peers: Vec<_> = members.list.iter().map(|member| &member.peer).collect();
    let fails = |peer| (0..2).for_each(|_| pool.tried(peer, Went::Failed, SECOND, now));
    for peer in &peers[..2] {
        fails(peer);
        pool.checked(peer, false, now);
    }
    fails(peers[2]);
    let reading = pool.reading(now);
    assert_eq!((count(&reading, Standing::Unhealthy), count(&reading, Standing::Usable)), (2, 2));
}

#[test]
fn a_request_keeps_its_instance_busy_until_it_is_dropped() {
    let (pool, now) = (pool(Policy::default()), Instant::now());
    let busy = Round::of(pool.members(instances(1), now)).next(&pool, None, now);
    assert_eq!(pool.reading(now).instances[0].busy, 1);
    drop(busy);
    assert_eq!(pool.reading(now).instances[0].busy, 0);
}

#[test]
fn a_place_goes_back_to_the_limit_that_it_was_taken_from() {
    let limited = Policy { limit: Some(LimitPolicy { initial: 1, min: 1, max: 1 }), ..Policy::default() };
    let (pool, now) = (pool(limited.clone()), Instant::now());
    let old = pool.enter(now, 0.5).unwrap();
    assert_eq!(pool.enter(now, 0.5).err(), Some(Shed::Limit));
    pool.configure(&Arc::new(Policy::default()));
    assert!(pool.enter(now, 0.5).is_ok(), "nothing limits it any more");
    pool.configure(&Arc::new(limited.clone()));
    let new = pool.enter(now, 0.5).unwrap();
    drop(old);
    assert_eq!(pool.enter(now, 0.5).err(), Some(Shed::Limit), "the new one is still taken");
    pool.configure(&Arc::new(Policy { idempotent: true, ..limited }));
    assert_eq!(pool.enter(now, 0.5).err(), Some(Shed::Limit), "and by a reload that leaves the limit too");
    drop(new);
    assert!(pool.enter(now, 0.5).is_ok());
}

#[test]
fn what_was_never_sent_costs_no_budget() {
    let (pool, now) = (pool(Policy::default()), Instant::now());
    assert!((0..1000).all(|_| pool.may_retry(Reason::NeverSent, now)));
    assert_eq!((0..1000).filter(|_| pool.may_retry(Reason::Broken, now)).count(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_ejected_instance_is_only_asked_where_there_is_no_other_and_the_cap_holds(
        size in 1usize..9,
        choice in 0usize..4,
        steps in prop::collection::vec((any::<u64>(), prop::bool::weighted(0.7), 0u32..3), 1..200),
    ) {
        let hash = Choice::Hash(HashOn::Header("x".to_owned()));
        let choices = [Choice::RoundRobin, Choice::LeastRequest, Choice::Latency, hash];
        let (pool, mut now) = (pool(ejecting(choices[choice].clone())), Instant::now());
        for (key, fails, seconds) in steps {
            now += seconds * SECOND;
            let members = pool.members(instances(size), now);
            let busy = Round::of(members).next(&pool, Some(key), now).unwrap();
            let reading = pool.reading(now);
            let asked = reading.instances.iter().find(|one| one.endpoint == busy.peer().endpoint).unwrap();
            prop_assert!(asked.standing == Standing::Usable || reading.is_panic);
            prop_assert!(count(&reading, Standing::Ejected) * 2 <= size);
            let went = if fails { Went::Failed } else { Went::Well };
            pool.tried(busy.peer(), went, SECOND / 10, now);
            if !fails {
                pool.judged(busy.peer(), false, now);
            }
        }
    }
}

#[test]
fn no_lock_is_held_by_two_who_wait_for_each_other() {
    let (pool, now) = (pool(ejecting(Choice::LeastRequest)), Instant::now());
    let members = pool.members(instances(6), now);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0..500 {
                pool.members(instances(5 + step % 2), now);
            }
        });
        for _ in 0..4 {
            scope.spawn(|| {
                for step in 0..500_u32 {
                    let now = now + step * SECOND / 10;
                    let busy = Round::of(members.clone()).next(&pool, None, now).unwrap();
                    let went = if step % 5 == 0 { Went::Well } else { Went::Failed };
                    pool.tried(busy.peer(), went, SECOND, now);
                    if went == Went::Well {
                        pool.judged(busy.peer(), false, now);
                    }
                    pool.reading(now);
                }
            });
        }
    });
    assert!(count(&pool.reading(now + 50 * SECOND), Standing::Ejected) <= 3);
    drop(lock(&pool.turns));
}
