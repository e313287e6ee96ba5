//! What a log says that no run can have written.

use serde_json::json;

use super::*;
use crate::plan::{ClientKey, PlannedBranch, Reply, Trace};
use crate::txn::{Reason, Shape, Votes};

fn plan() -> Arc<Plan> {
    let branch = PlannedBranch {
        service: "accounts".to_owned(),
        method: "POST".to_owned(),
        work: "/debit".to_owned(),
        prepare: None,
        commit: "/tx/commit".to_owned(),
        abort: "/tx/abort".to_owned(),
        body: None,
    };
    let (route, deadline, trace) = ("transfer".to_owned(), Timestamp(10_000), Trace::begin(1));
    Arc::new(Plan { route, deadline, branches: vec![branch], bodies: Vec::new(), key: None, trace })
}

#[test]
fn a_transaction_that_is_carried_although_it_ended_is_set_aside() {
    let plan = plan();
    let votes = Votes { yes: plan.shape().unwrap().branches, ..Votes::default() };
    let commit = Transition::Decided { decision: Decision::Commit, votes, reason: None };
    let txn = Txn::replay(plan.shape().unwrap(), [commit, Transition::Ended]).unwrap();
    assert_eq!(fault(plan, txn), "it is carried although it is committed");
}

#[test]
fn a_transaction_that_is_carried_with_other_branches_is_set_aside() {
    let other = Shape::new(2, Branches::NONE, Timestamp(10_000)).unwrap();
    assert_eq!(fault(plan(), Txn::begin(other)), "it is carried with other branches than it has");
}

#[test]
fn a_transaction_that_is_carried_as_no_run_can_leave_it_is_set_aside() {
    let shape = plan().shape().unwrap();
    let abort = Transition::Decided {
        decision: Decision::Abort,
        votes: Votes::default(),
        reason: Some(Reason::Restarted),
    };
    let aborting = Txn::replay(shape, [abort]).unwrap();
    let working = Txn::begin(shape);
    // Changed in its serialized form, because no transition leads there. Its only branch is 0.
    for (txn, member, foreign) in [
        (aborting, "/state/Aborting/1/waiting", json!(0b11)),
        (aborting, "/state/Aborting/0", json!({"Late": 7})),
        (aborting, "/votes/no", json!(0b10)),
        (working, "/state", json!({"Preparing": {"read_only": 0b10}})),
        (working, "/votes/yes", json!(0b1)),
    ] {
        let mut value = serde_json::to_value(txn).unwrap();
        *value.pointer_mut(member).unwrap() = foreign;
        let txn = serde_json::from_value(value).unwrap();
        assert_eq!(fault(plan(), txn), "it is carried with other branches than it has", "{member}");
    }
}

#[test]
fn a_transaction_that_is_carried_with_answers_of_others_is_set_aside() {
    let other = Branch::new(1).unwrap();
    let reply = Reply { status: 200, content_type: None, body: "".into() };
    let txn = Txn::begin(plan().shape().unwrap());
    let kept = Some(Kept::Whole(vec![(other, reply)]));
    let why = "it is carried with other branches than it has";
    let of = |kept| Box::new(Carried { plan: plan(), txn, kept, parked: None });
    assert_eq!(fault_of(Record::Carried(of(kept))), why);
    assert_eq!(fault_of(Record::CarriedResolved(of(None), vec![(other, Decision::Commit)])), why);
}

#[test]
fn what_is_wrong_with_a_transaction_stays_wrong_when_it_is_carried() {
    let (plan, mut replay) = (plan(), Replay::default());
    let carried =
        Carried { txn: Txn::begin(plan.shape().unwrap()), plan: plan.clone(), kept: None, parked: None };
    for record in [Record::Begun(plan.clone()), Record::Begun(plan), Record::Carried(Box::new(carried))] {
        replay.take(Lsn::FIRST, entry(record));
    }
    let seen = replay.open(TransactionId::NONE).unwrap();
    assert_eq!(seen.fault.as_ref().unwrap().why, "it begins a second time");
}

/// Only a gap may be explained by what comes after it, and only while no operator has spoken.
#[test]
fn a_decision_does_not_mend_what_no_run_can_have_written_nor_what_an_operator_has_begun_to_settle() {
    let plan = plan();
    let two = Arc::new(Plan { branches: vec![plan.branches[0].clone(); 2], ..Plan::clone(&plan) });
    let lost = || Record::GaveUp { damage: "lost".to_owned() };
    let by_hand = || Record::Resolved {
        branch: Branch::new(0).unwrap(),
        decision: Decision::Abort,
        actor: String::new(),
        reason: String::new(),
    };
    for (records, is_mended) in [
        (vec![Record::Begun(plan.clone()), Record::Begun(plan)], false),
        (vec![Record::Begun(two.clone()), lost()], true),
        (vec![Record::Begun(two), lost(), by_hand()], false),
    ] {
        let mut replay = Replay::default();
        for record in records {
            replay.take(Lsn::FIRST, entry(record));
        }
        assert!(replay.open(TransactionId::NONE).unwrap().fault.is_some());
        let (votes, reason, kept) = (Votes::default(), Some(Reason::Restarted), None);
        replay.take(Lsn::FIRST, entry(Record::Decided { decision: Decision::Abort, votes, reason, kept }));
        assert_eq!(replay.open(TransactionId::NONE).unwrap().fault.is_none(), is_mended);
    }
}

/// Whoever ends was confirmed by everybody, whatever is missing before that.
#[test]
fn an_end_is_one_behind_a_gap_and_not_behind_what_no_run_can_have_written() {
    let gap = Record::GaveUp { damage: "lost".to_owned() };
    for (second, is_over) in [(gap, true), (Record::Begun(plan()), false)] {
        let mut replay = Replay::default();
        for record in [Record::Begun(plan()), second, Record::Ended(Decision::Commit)] {
            replay.take(Lsn::FIRST, entry(record));
        }
        assert_eq!(replay.open(TransactionId::NONE).is_none(), is_over);
    }
}

/// As every one is that is carried from the beginning of the log to its end.
#[test]
fn a_transaction_that_is_carried_as_it_was_goes_on() {
    let (plan, mut replay) = (plan(), Replay::default());
    let txn = Txn::begin(plan.shape().unwrap());
    replay.take(Lsn::FIRST, entry(Record::Begun(plan.clone())));
    replay
        .take(Lsn::FIRST, entry(Record::Carried(Box::new(Carried { plan, txn, kept: None, parked: None }))));
    assert_eq!(replay.open(TransactionId::NONE).unwrap().fault, None);
}

#[test]
fn a_transaction_that_has_ended_is_counted_and_its_key_remembered() {
    let key = Some(ClientKey { key: "once".to_owned(), fingerprint: [7; 32] });
    let (plan, mut replay) = (Arc::new(Plan { key, ..Plan::clone(&plan()) }), Replay::default());
    let (votes, reason, kept) = (Votes::default(), Some(Reason::Restarted), None);
    let abort = Record::Decided { decision: Decision::Abort, votes, reason, kept };
    for record in [Record::Begun(plan), abort, Record::Ended(Decision::Abort)] {
        replay.take(Lsn::FIRST, entry(record));
    }
    let (_, unfinished, found) = replay.into_parts();
    assert_eq!((unfinished.len(), found.records, found.finished), (0, 3, 1));
    assert_eq!(found.keys, [(key_hash("transfer", "once"), TransactionId::NONE)].into());
}

#[test]
fn a_transaction_that_is_carried_as_what_it_was_not_is_set_aside() {
    let (plan, mut replay) = (plan(), Replay::default());
    let reason = Some(Reason::Restarted);
    let abort = Transition::Decided { decision: Decision::Abort, votes: Votes::default(), reason };
    let txn = Txn::replay(plan.shape().unwrap(), [abort]).unwrap();
    replay.take(Lsn::FIRST, entry(Record::Begun(plan.clone())));
    let carried = Carried { plan, txn, kept: None, parked: None };
    replay.take(Lsn::FIRST, entry(Record::Carried(Box::new(carried))));
    let seen = replay.open(TransactionId::NONE).unwrap();
    assert_eq!(seen.fault.as_ref().unwrap().why, "it is carried as aborting and was working");
}

#[test]
fn a_transaction_with_more_branches_than_there_can_be_is_set_aside() {
    let (plan, mut replay) = (plan(), Replay::default());
    let txn = Txn::begin(plan.shape().unwrap());
    let plan = Arc::new(Plan { branches: vec![plan.branches[0].clone(); 65], ..Arc::unwrap_or_clone(plan) });
    replay.take(Lsn::FIRST, entry(Record::Begun(plan.clone())));
    let carried = Carried { plan, txn, kept: None, parked: None };
    replay.take(Lsn::FIRST, entry(Record::Carried(Box::new(carried))));
    let (_, unfinished, found) = replay.into_parts();
    let faults: Vec<_> = unfinished.iter().filter_map(|logged| Some(logged.fault.as_ref()?.kind)).collect();
    assert_eq!((faults, found.strays), (vec![FaultKind::NoBeginning], 2));
}

/// The beginning may be lost, and may have been retired: then its end comes, or it is carried.
#[test]
fn whoever_has_no_beginning_is_set_aside_until_its_end_comes_or_it_is_settled() {
    let branch = |number| Branch::new(number).unwrap();
    let votes = Votes { yes: Branches::first_of(3).unwrap(), ..Votes::default() };
    let decided = || Record::Decided { decision: Decision::Commit, votes, reason: None, kept: None };
    let by_hand = |number| Record::Resolved {
        branch: branch(number),
        decision: Decision::Commit,
        actor: String::new(),
        reason: String::new(),
    };
    let left = |records: Vec<Record>| {
        let mut replay = Replay::default();
        for record in records {
            replay.take(Lsn::FIRST, entry(record));
        }
        let (_, mut unfinished, _) = replay.into_parts();
        unfinished.pop()
    };
    let held = left(vec![decided(), Record::Acked(branch(2))]).expect("it does not vanish");
    assert_eq!(held.fault.as_ref().unwrap().kind, FaultKind::NoBeginning);
    assert_eq!((held.plan.branches.len(), held.txn.decision()), (3, Some(Decision::Commit)));
    assert_eq!(held.txn.telling().waiting, Branches::first_of(2).unwrap());
    // Branches that no record names may have taken part as well.
    let parked = Record::Parked { branch: branch(0), status: 409, reason: String::new() };
    for of_a_run in [vec![parked, by_hand(0)], vec![by_hand(0)]] {
        let held = left(of_a_run).expect("it was not settled as a whole");
        assert_eq!((held.plan.branches.len(), held.txn.decision()), (1, None));
        assert!(held.fault.unwrap().resolved.is_empty(), "each has to be looked at");
    }
    for over in [
        vec![decided(), Record::Ended(Decision::Commit)],
        vec![Record::Acked(branch(1)), by_hand(1), by_hand(0), Record::Settled],
        // The rest of what was settled longer ago than the log is kept.
        vec![by_hand(1), Record::Settled],
    ] {
        assert_eq!(left(over.clone()), None, "{over:?}");
    }
    let begun = left(vec![Record::Acked(branch(0)), Record::Begun(plan())]).expect("it is unfinished");
    assert_eq!(begun.fault, None, "its beginning was met");
}

/// Somebody may have been told it: it must not be settled against that.
#[test]
fn what_was_decided_is_known_without_the_beginning_whoever_was_asked_to_prepare() {
    let only = |number| Branches::only(Branch::new(number).unwrap());
    let abort = |votes| Record::Decided {
        decision: Decision::Abort,
        votes,
        reason: Some(Reason::Restarted),
        kept: None,
    };
    let votes = Votes { yes: only(0), ..Votes::default() };
    let read_only = Votes { read_only: only(2), ..votes };
    for records in [
        vec![Record::Preparing { read_only: Branches::NONE }, abort(votes)],
        vec![Record::Preparing { read_only: only(2) }, abort(read_only)],
        vec![abort(votes)],
        vec![abort(Votes::default())],
        vec![abort(read_only), Record::Acked(Branch::new(1).unwrap())],
    ] {
        let mut replay = Replay::default();
        records.iter().cloned().for_each(|record| replay.take(Lsn::FIRST, entry(record)));
        let (_, unfinished, _) = replay.into_parts();
        assert_eq!(unfinished[0].txn.decision(), Some(Decision::Abort), "{records:?}");
    }
}

/// Where all that are known are read-only, somebody else was asked to prepare; more than there can be are none.
#[test]
fn of_whom_nobody_tells_there_is_one_more_where_there_can_be() {
    for (read_only, branches) in [(1, 2), (63, 64), (64, 64)] {
        let mut replay = Replay::default();
        let read_only = Branches::first_of(read_only).unwrap();
        replay.take(Lsn::FIRST, entry(Record::Preparing { read_only }));
        let (_, unfinished, _) = replay.into_parts();
        let counts: Vec<_> = unfinished.iter().map(|logged| logged.plan.branches.len()).collect();
        assert_eq!(counts, [branches]);
    }
}

#[test]
fn what_an_operator_has_settled_is_finished_with_its_beginning_and_without_it() {
    for first in [Record::Begun(plan()), Record::Acked(Branch::new(0).unwrap())] {
        let mut replay = Replay::default();
        for record in [first, Record::GaveUp { damage: "lost".to_owned() }, Record::Settled] {
            replay.take(Lsn::FIRST, entry(record));
        }
        let (_, unfinished, found) = replay.into_parts();
        assert_eq!((unfinished.as_slice(), found.finished), (&[][..], 1));
    }
}

fn entry(record: Record) -> Entry {
    Entry { time: Timestamp(1), transaction: TransactionId::NONE, record }
}

fn fault(plan: Arc<Plan>, txn: Txn) -> String {
    fault_of(Record::Carried(Box::new(Carried { plan, txn, kept: None, parked: None })))
}

fn fault_of(record: Record) -> String {
    let mut replay = Replay::default();
    replay.take(Lsn::FIRST, entry(record));
    let (_, unfinished, _) = replay.into_parts();
    let logged = unfinished.first().expect("it is unfinished");
    assert_eq!(logged.txn.shape(), logged.plan.shape().unwrap(), "what is kept fits together");
    logged.fault.as_ref().expect("it is set aside").why.clone()
}
