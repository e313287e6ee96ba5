//! A log with gaps, as a rescued one has: nothing is decided that was not, and nothing that was is forgotten without a
//! word.
//!
//! Every state that one, two and three branches can reach, each by a run of its own; of each log every stretch is left out, and
//! every two. What is replayed is compared with what really happened.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use unanimous::clock::Timestamp;
use unanimous::journal::LogPosition as Lsn;
use unanimous::journal::record::{Carried, Entry, Record, Remark};
use unanimous::journal::replay::{FaultKind, Logged, Replay};
use unanimous::plan::{Plan, PlannedBranch, Trace, TransactionId};
use unanimous::txn::{Branch, Decision, Shape, Transition, Txn};

use space::runs;

#[path = "txn_state_space/candidates.rs"]
#[expect(dead_code, reason = "used by its own tests")]
mod candidates;
#[path = "txn_state_space/run.rs"]
#[expect(dead_code, reason = "used by its own tests")]
mod run;
#[path = "txn_state_space/space.rs"]
#[expect(dead_code, reason = "used by its own tests")]
mod space;

/// What a log has at one place.
#[derive(Clone)]
enum Place {
    Record(Record),
    Gap,
}

#[test]
fn a_gap_anywhere_neither_makes_nor_changes_a_decision() {
    let (mut cases, mut in_question) = (0_u64, 0_u64);
    for run in runs() {
        let records = log_of(run.txn.shape(), &run.log);
        for gapped in with_gaps(&records) {
            cases += 1;
            in_question += u64::from(is_true_to(&gapped, &records, &run.txn.durable()));
        }
    }
    assert!(cases > 100_000 && in_question > 1_000, "{cases} cases, {in_question} of them in question");
}

/// The same where the state is carried after the last step.
#[test]
fn a_state_that_is_carried_behind_a_gap_is_known_whatever_is_missing() {
    for run in runs().filter(|run| !run.txn.state().is_final()) {
        let txn = run.txn.durable();
        let mut records = log_of(txn.shape(), &run.log);
        let plan = plan_of(txn.shape());
        records.push(Record::Carried(Box::new(Carried { plan, txn, kept: None, parked: None })));
        for from in 1..records.len() - 1 {
            for to in from + 1..records.len() {
                let gapped = without(&records, from, to);
                let left = replayed(&gapped).unwrap();
                assert_eq!((left.fault.as_ref(), left.txn), (None, txn), "{records:?} without {from}..{to}");
            }
        }
    }
}

/// Gives whether the transaction is in question, and fails where anything is said of it that is not so.
fn is_true_to(gapped: &[Place], whole: &[Record], truth: &Txn) -> bool {
    let said = || format!("{:?} of {whole:?}", gapped.iter().map(name).collect::<Vec<_>>());
    let there = |is_meant: fn(&Record) -> bool| {
        gapped.iter().any(|place| matches!(place, Place::Record(record) if is_meant(record)))
    };
    let has_decision = there(|record| matches!(record, Record::Decided { .. }));
    let Some(left) = replayed(gapped) else {
        // Everybody confirmed, or an operator has settled every branch.
        let ends = there(|record| matches!(record, Record::Ended(_) | Record::Resolved { .. }));
        assert!(ends && truth.telling().outstanding().is_empty() && truth.decision().is_some(), "{}", said());
        return false;
    };
    if let Some(fault) = &left.fault {
        assert!(fault.kind == FaultKind::Gap, "no disorder is made of a gap: {} in {}", fault.why, said());
        assert!(!has_decision, "what was decided is known: {}", said());
        return true;
    }
    assert_eq!(left.txn.decision(), truth.decision(), "{}", said());
    assert!(
        left.txn.telling().outstanding().covers(truth.telling().outstanding()),
        "nobody is forgotten: {}",
        said()
    );
    false
}

/// What a start would find.
fn replayed(places: &[Place]) -> Option<Logged> {
    let mut replay = Replay::default();
    for (number, place) in (1..).zip(places) {
        let (transaction, record) = match place {
            Place::Record(record) => (TransactionId::NONE, record.clone()),
            Place::Gap => (TransactionId::NONE, Record::GaveUp { damage: "missing".to_owned() }),
        };
        replay.take(Lsn::new(number).unwrap(), Entry { time: Timestamp(number), transaction, record });
    }
    replay.into_parts().1.pop()
}

/// The log with one and with two stretches missing, each at least one record long and after `begun`.
fn with_gaps(records: &[Record]) -> Vec<Vec<Place>> {
    let mut all = Vec::new();
    for from in 1..=records.len() {
        // A gap at the very end may have held more than there is.
        for to in from..=records.len() {
            if to == from && to < records.len() {
                continue;
            }
            all.push(without(records, from, to));
            for (again, until) in (to + 1..records.len())
                .flat_map(|again| (again + 1..=records.len()).map(move |until| (again, until)))
            {
                let mut places = without(&records[..again], from, to);
                places.extend(without(&records[again..], 0, until - again));
                all.push(places);
            }
        }
    }
    all
}

fn without(records: &[Record], from: usize, to: usize) -> Vec<Place> {
    let place = |record: &Record| Place::Record(record.clone());
    let (before, after) = (records[..from].iter().map(place), records[to..].iter().map(place));
    before.chain([Place::Gap]).chain(after).collect()
}

/// What a run writes, from the beginning on.
fn log_of(shape: Shape, steps: &[Transition]) -> Vec<Record> {
    let mut txn = Txn::begin(shape);
    let mut records = vec![Record::Begun(plan_of(shape))];
    for step in steps {
        txn = txn.apply(*step).unwrap();
        records.push(Record::of(*step, &txn, Remark::default()));
    }
    records
}

fn plan_of(shape: Shape) -> Arc<Plan> {
    let branch = |number: Branch| PlannedBranch {
        service: format!("service {number}"),
        method: "POST".to_owned(),
        work: "/work".to_owned(),
        prepare: shape.prepare.has(number).then(|| "/prepare".to_owned()),
        commit: "/commit".to_owned(),
        abort: "/abort".to_owned(),
        body: None,
    };
    let branches = shape.branches.iter().map(branch).collect();
    let (deadline, trace) = (shape.deadline, Trace::begin(1));
    Arc::new(Plan { route: "transfer".to_owned(), deadline, branches, bodies: Vec::new(), key: None, trace })
}

fn name(place: &Place) -> String {
    match place {
        Place::Record(Record::Decided { decision: Decision::Commit, .. }) => "commit".to_owned(),
        Place::Record(record) => record.name().to_owned(),
        Place::Gap => "..".to_owned(),
    }
}
