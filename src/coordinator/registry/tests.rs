//! Who is admitted, how the open ones are counted, and what is known of them.

use super::*;
use crate::plan::{Issuer, made};
use crate::txn::Branch;

const KEY: KeyHash = 7;

fn one() -> (TransactionId, Open) {
    over(&["accounts"])
}

/// A transaction that has begun, with a branch for each of these services.
fn over(services: &[&str]) -> (TransactionId, Open) {
    let id = Issuer::new(1).issue(Timestamp(fastrand::u64(..1 << 40)), 0);
    let plan = made::over(services);
    let txn = Txn::begin(plan.shape().unwrap());
    let view = watch::channel(View::new(id, Arc::new(plan), txn)).1;
    let since = AtomicU64::new(1);
    let (inbox, stand) = (mpsc::channel(1).0, Stand::of(&txn));
    (id, Open { inbox, view, stand, since, is_recovered: false })
}

fn empty() -> Registry {
    Registry::new(HashMap::new())
}

fn only(number: usize) -> Branches {
    Branches::only(Branch::new(number).unwrap())
}

#[test]
fn of_two_requests_with_one_key_only_the_first_is_admitted() {
    let registry = Registry::new(HashMap::new());
    let ((first, open), (second, another)) = (one(), one());
    assert!(registry.admit(first, open, Some(KEY), 10).is_ok());
    assert!(matches!(registry.admit(second, another, Some(KEY), 10), Err(Claim::Taken(_))));
    assert_eq!((registry.key(KEY), registry.in_doubt().0), (Some(first), 1));
}

#[test]
fn nothing_is_admitted_over_the_limit_or_while_draining_and_its_key_stays_free() {
    let registry = Registry::new(HashMap::new());
    let ((first, open), (second, another), (third, last)) = (one(), one(), one());
    assert!(registry.admit(first, open, None, 1).is_ok());
    assert!(matches!(registry.admit(second, another, Some(KEY), 1), Err(Claim::Full(1))));
    registry.drain();
    assert!(matches!(registry.admit(third, last, Some(KEY), 10), Err(Claim::Draining)));
    assert_eq!(registry.key(KEY), None);
}

#[test]
fn a_key_is_remembered_while_its_transaction_is_open_or_in_the_log() {
    let registry = Registry::new(HashMap::new());
    let (id, open) = one();
    assert!(registry.admit(id, open, Some(KEY), 10).is_ok());
    registry.forget_keys(|_| true);
    assert_eq!(registry.key(KEY), Some(id), "it is open");
    registry.remove(id);
    registry.forget_keys(|gone| gone != id);
    assert_eq!(registry.key(KEY), Some(id), "it is in the log");
    registry.forget_keys(|_| true);
    assert_eq!(registry.key(KEY), None);
}

/// Whether one more over this service is taken in.
fn room_for(registry: &Registry, service: &str, max: usize) -> bool {
    registry.has_room(&BTreeSet::from([service]), max).is_ok()
}

#[test]
fn a_service_that_half_of_the_places_wait_for_gets_no_more_and_others_do() {
    let registry = empty();
    let max = 7;
    let mut last = None;
    for waiting in 0..4 {
        assert!(room_for(&registry, "accounts", max), "{waiting} wait for it");
        let (id, open) = over(&["accounts", "ledger"]);
        assert!(registry.admit(id, open, None, max).is_ok());
        last = Some(id);
    }
    let full = registry.has_room(&BTreeSet::from(["other", "ledger"]), max);
    assert!(matches!(full, Err(Claim::FullOf(service, 4)) if service == "ledger"));
    assert!(room_for(&registry, "other", max));
    // One that waits for the accounts alone makes room for the ledger, as long as not too many will need it later.
    let (id, all) = (last.unwrap(), Branches::first_of(2).unwrap());
    registry.stands(id, Stand { waits_for: only(0), needs: all });
    assert!(!room_for(&registry, "accounts", max) && room_for(&registry, "ledger", max));
    // To stand as before changes nothing, and one that is not open neither.
    registry.stands(id, Stand { waits_for: only(0), needs: all });
    registry.stands(one().0, Stand::held(all));
    assert!(!room_for(&registry, "accounts", max) && room_for(&registry, "ledger", max));
    registry.remove(id);
    assert!(room_for(&registry, "accounts", max) && room_for(&registry, "ledger", max));
}

#[test]
fn a_service_that_three_of_four_places_will_need_gets_no_more() {
    let registry = empty();
    let max = 9;
    for needing in 0..7 {
        assert!(room_for(&registry, "accounts", max), "{needing} need it");
        let (id, open) = one();
        assert!(registry.admit(id, open, None, max).is_ok());
        // It has answered its work, and nobody waits for it before the decision.
        registry.stands(id, Stand { waits_for: Branches::NONE, needs: only(0) });
    }
    assert!(matches!(registry.has_room(&BTreeSet::from(["accounts"]), max), Err(Claim::FullOf(_, 7))));
    assert!(room_for(&registry, "other", max));
}

#[test]
fn one_that_has_begun_waits_for_all_and_needs_all() {
    let (_, open) = over(&["accounts", "ledger"]);
    assert_eq!(open.stand, Stand::held(Branches::first_of(2).unwrap()));
}

#[test]
fn the_open_ones_are_counted_and_found_the_oldest_first() {
    let registry = empty();
    assert_eq!(registry.in_doubt(), (0, None));
    let mut ids: Vec<_> = (0..3)
        .map(|_| {
            let (id, open) = one();
            assert!(registry.admit(id, open, None, 10).is_ok());
            id
        })
        .collect();
    ids.sort();
    assert_eq!(registry.in_doubt(), (3, Some(ids[0].time())));
    assert_eq!(registry.views().iter().map(|view| view.id).collect::<Vec<_>>(), ids);
    assert_eq!(registry.view(ids[1]).map(|view| view.id), Some(ids[1]));
    assert!(registry.watch(ids[2]).is_some() && registry.inbox(ids[2]).is_some());
    registry.remove(ids[0]);
    assert!(registry.view(ids[0]).is_none() && registry.inbox(ids[0]).is_none());
    assert_eq!(registry.in_doubt(), (2, Some(ids[1].time())));
}

#[test]
fn those_of_earlier_runs_are_counted_down_and_those_of_this_run_are_not() {
    let registry = empty();
    let recovered = || {
        let (id, open) = one();
        registry.readmit(id, Open { is_recovered: true, ..open });
        id
    };
    let (first, second) = (recovered(), recovered());
    let (own, open) = one();
    assert!(registry.admit(own, open, None, 10).is_ok());
    assert_eq!(registry.recovering(), (2, 2));
    registry.remove(own);
    assert_eq!(registry.recovering(), (2, 2));
    registry.remove(first);
    assert_eq!(registry.recovering(), (2, 1));
    registry.remove(second);
    assert_eq!(registry.recovering(), (2, 0));
}

#[tokio::test]
async fn whoever_waits_for_the_end_of_all_waits_for_the_last() {
    let registry = empty();
    registry.emptied().await;
    let ((first, open), (second, another)) = (one(), one());
    assert!(
        registry.admit(first, open, None, 10).is_ok() && registry.admit(second, another, None, 10).is_ok()
    );
    let mut emptied = std::pin::pin!(registry.emptied());
    for id in [first, second] {
        assert!(futures_util::poll!(&mut emptied).is_pending());
        registry.remove(id);
    }
    emptied.await;
}

#[test]
fn the_parked_are_those_an_operator_has_to_look_at() {
    let registry = empty();
    let (id, open) = one();
    let mut view = open.view.borrow().clone();
    assert!(registry.admit(id, open, None, 10).is_ok());
    assert_eq!(registry.parked(), 0);
    for _ in 0..2 {
        let (id, open) = one();
        view.parked = Some("no such hold".to_owned());
        assert!(registry.admit(id, Open { view: watch::channel(view.clone()).1, ..open }, None, 10).is_ok());
    }
    assert_eq!(registry.parked(), 2);
}

#[test]
fn a_key_that_stands_for_another_transaction_is_not_forgotten() {
    let registry = empty();
    let (id, open) = one();
    assert!(registry.admit(id, open, Some(KEY), 10).is_ok());
    registry.forget_key(KEY, one().0);
    assert_eq!(registry.key(KEY), Some(id));
    registry.forget_key(KEY, id);
    assert_eq!(registry.key(KEY), None);
}

#[test]
fn those_with_records_before_a_place_are_to_be_carried_and_what_was_carried_is_old_no_more() {
    let registry = empty();
    assert_eq!(registry.oldest(), None);
    let at = |since: u64| {
        let (id, open) = one();
        registry.readmit(id, Open { since: since.into(), ..open });
        id
    };
    let (old, _) = (at(4), at(5));
    let before = || registry.before(Lsn::new(5).unwrap());
    assert!(before()[0].same_channel(&registry.inbox(old).unwrap()));
    assert_eq!((before().len(), registry.oldest()), (1, Lsn::new(4)));
    registry.carried(old, 9);
    assert_eq!((before().len(), registry.oldest()), (0, Lsn::new(5)));
}
