//! Records in any order never make replay panic; what it calls sound is what the machine itself would accept.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use unanimous::clock::Timestamp;
use unanimous::journal::LogPosition;
use unanimous::journal::record::{Carried, Entry, Record};
use unanimous::journal::replay::Replay;
use unanimous::plan::{ClientKey, Plan, PlannedBranch, Trace, TransactionId};
use unanimous::txn::{Branch, Branches, Decision, Reason, Txn, Votes};

#[derive(Debug, Arbitrary)]
enum Act {
    Opened,
    Begun { branches: u8, prepare: u8, key: Option<u8> },
    Carried { key: Option<u8>, steps: Vec<Step>, resolved: Option<Vec<(u8, bool)>> },
    Step(Step),
    GaveUp,
    Settled,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Preparing(u8),
    Decided { commits: bool, votes: [u8; 4], reason: Option<(u8, u8, Option<u16>)> },
    Acked(u8),
    Parked(u8, u16),
    Resolved(u8, bool),
    Ended(bool),
}

fuzz_target!(|acts: Vec<(u8, u16, Act)>| {
    let (mut replay, mut lsn) = (Replay::default(), LogPosition::FIRST);
    for (who, time, act) in acts {
        let record = match act {
            Act::Opened => Record::Opened { epoch: 1, version: String::new() },
            Act::Begun { branches, prepare, key } => Record::Begun(Arc::new(plan(branches, prepare, key))),
            Act::Carried { key, steps, resolved } => carried(who, key, &steps, resolved),
            Act::Step(step) => record(&step),
            Act::GaveUp => Record::GaveUp { damage: String::new() },
            Act::Settled => Record::Settled,
        };
        let transaction = format!("{:032x}", who % 4).parse::<TransactionId>().expect("a number is an id");
        replay.take(lsn, Entry { time: Timestamp(time.into()), transaction, record });
        lsn = lsn.next();
    }
    let (_, unfinished, found) = replay.into_parts();
    for logged in unfinished {
        assert!(logged.fault.is_some() || !logged.txn.state().is_final(), "what ended is let go: {logged:?}");
        // What recovery asks every transaction first.
        drop(logged.txn.owed());
    }
    assert_eq!(found.records, lsn.get() - 1);
});

fn plan(branches: u8, prepare: u8, key: Option<u8>) -> Plan {
    let one = |number: u8| PlannedBranch {
        service: "a".to_owned(),
        method: "POST".to_owned(),
        work: "/".to_owned(),
        prepare: (prepare >> (number % 8) & 1 == 1).then(|| "/p".to_owned()),
        commit: "/c".to_owned(),
        abort: "/a".to_owned(),
        body: None,
    };
    // Now and then more than there may be.
    let branches = if branches > 250 { 65 } else { branches % 4 };
    let branches = (0..branches).map(one).collect();
    Plan {
        route: "r".to_owned(),
        deadline: Timestamp(1),
        branches,
        bodies: vec![],
        // Few enough that transactions share them, with the same request and with another one.
        key: key.map(|key| ClientKey { key: (key % 2).to_string(), fingerprint: [key % 4; 32] }),
        trace: Trace::begin(1),
    }
}

fn carried(who: u8, key: Option<u8>, steps: &[Step], resolved: Option<Vec<(u8, bool)>>) -> Record {
    let plan = plan(1 + who % 3, who >> 4, key);
    let begun = Txn::begin(plan.shape().expect("at most three branches"));
    let taken = steps.iter().filter_map(|step| record(step).transition());
    let txn = taken.fold(begun, |txn, step| txn.apply(step).unwrap_or(txn));
    let carried = Box::new(Carried { plan: Arc::new(plan), txn, kept: None, parked: None });
    match resolved {
        Some(resolved) => {
            let resolved = resolved.into_iter().map(|(number, commits)| (branch(number), decision(commits)));
            Record::CarriedResolved(carried, resolved.collect())
        }
        None => Record::Carried(carried),
    }
}

fn record(step: &Step) -> Record {
    match *step {
        Step::Preparing(read_only) => Record::Preparing { read_only: set(read_only) },
        Step::Decided { commits, votes: [yes, read_only, no, never_sent], reason } => Record::Decided {
            decision: decision(commits),
            votes: Votes {
                yes: set(yes),
                read_only: set(read_only),
                no: set(no),
                never_sent: set(never_sent),
            },
            reason: reason.map(|(kind, number, status)| match kind % 4 {
                0 => Reason::Refused(branch(number), status.unwrap_or(409)),
                1 => Reason::Unreachable(branch(number), status),
                2 => Reason::Late(branch(number)),
                _ => Reason::Restarted,
            }),
            kept: None,
        },
        Step::Acked(number) => Record::Acked(branch(number)),
        Step::Parked(number, status) => {
            Record::Parked { branch: branch(number), status, reason: "it said no".to_owned() }
        }
        Step::Resolved(number, commits) => Record::Resolved {
            branch: branch(number),
            decision: decision(commits),
            actor: String::new(),
            reason: String::new(),
        },
        Step::Ended(commits) => Record::Ended(decision(commits)),
    }
}

fn branch(number: u8) -> Branch {
    Branch::new(usize::from(number % 4)).expect("less than 64")
}

fn set(bits: u8) -> Branches {
    (0..4).filter(|number| bits >> number & 1 == 1).map(branch).collect()
}

fn decision(commits: bool) -> Decision {
    if commits { Decision::Commit } else { Decision::Abort }
}
