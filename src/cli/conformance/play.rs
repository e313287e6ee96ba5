//! One script under way: its transactions, what each branch was told, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attack::Attack;
use super::finding::{Finding, Verdict, blame};
use super::look::Shown;
use super::rules::Rule;
use super::script::{Call, Epoch, Share, Step, given};
use super::sender::Exchange;
use crate::participant::{self, Answer, Work};
use crate::plan::{Plan, TransactionId};
use crate::txn::{Branch, Decision, Operation};

/// A no to work is always allowed; where nothing else is promised it says that there is nothing left to ask for.
const ONE_AT_A_TIME: &str = "it takes on no other work while it has promised some, which it may do";

/// A script that was begun.
#[derive(Debug)]
pub(super) struct Play {
    rule: &'static Rule,
    /// The step that comes next.
    next: usize,
    /// How many judged calls were answered as they have to be.
    judged: usize,
    transactions: BTreeMap<u8, Transaction>,
    shares: BTreeMap<Share, Standing>,
    /// How often each branch was asked for each operation.
    attempts: BTreeMap<(Share, &'static str), u32>,
    exchanges: Vec<Exchange>,
    stopped: Option<Verdict>,
    /// Its work was not taken on.
    is_turned_away: bool,
    /// What it has changed of what is shown.
    change: Result<Shown, String>,
}

#[derive(Debug, Clone)]
struct Transaction {
    id: TransactionId,
    plan: Arc<Plan>,
    work: Work,
    decision: Option<Decision>,
}

/// How one branch stands, by what it answered.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    /// It may hold something that nobody has settled.
    is_open: bool,
    is_committed: bool,
    is_read_only: bool,
}

impl Play {
    /// A script that is about to begin, or never will where something stands in its way.
    pub(super) fn new(rule: &'static Rule, obstacle: Option<Verdict>) -> Self {
        Self {
            rule,
            next: 0,
            judged: 0,
            transactions: BTreeMap::new(),
            shares: BTreeMap::new(),
            attempts: BTreeMap::new(),
            exchanges: Vec::new(),
            stopped: obstacle,
            is_turned_away: false,
            change: Ok(Shown::default()),
        }
    }

    /// Whether it leaves no promise open at its restart.
    pub(super) fn is_settled_early(&self) -> bool {
        let mut before = self.rule.steps().iter().take_while(|step| !matches!(step, Step::Restart));
        before.any(|step| {
            matches!(step, Step::Call(Call { operation: Operation::Commit | Operation::Abort, .. }))
        })
    }

    /// Plays on to the restart, or to the end. Nothing is looked at, so that the kill can come straight after the last answer:
    /// each confirmed commit is taken to have changed what it has to.
    pub(super) async fn go_on_unseen(&mut self, attack: &mut Attack) {
        self.play(attack).await;
        self.change = Ok(attack.changed_by(self.commits()));
    }

    /// Plays on to the restart, or to the end.
    pub(super) async fn go_on(&mut self, attack: &mut Attack) {
        if self.stopped.is_some() && self.next == 0 {
            return;
        }
        let before = attack.see().await;
        self.play(attack).await;
        let after = attack.see().await;
        let change = before.and_then(|before| Ok(after?.since(&before)));
        self.change = self.change.clone().and_then(|so_far| Ok(so_far.and(&change?)));
    }

    /// The end is cleaned up after.
    async fn play(&mut self, attack: &mut Attack) {
        while let (None, Some(step)) = (&self.stopped, self.rule.steps().get(self.next)) {
            self.next += 1;
            match step {
                Step::Call(call) => self.call(attack, std::slice::from_ref(call)).await,
                Step::AtOnce(calls) => self.call(attack, calls).await,
                Step::Hold => attack.hold().await,
                Step::Restart => return,
            }
        }
        self.clean_up(attack).await;
        if self.rule.calls().any(|call| call.epoch == Epoch::Next) {
            attack.next_life();
        }
    }

    /// Whether there is more to play.
    pub(super) fn goes_on(&self) -> bool {
        self.stopped.is_none() && self.next < self.rule.steps().len()
    }

    /// The same, as if nothing had been played.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.rule, None)
    }

    /// Whether its work was not taken on, so that it does not go on.
    pub(super) fn is_turned_away(&self) -> bool {
        self.is_turned_away
    }

    /// Whether it may hold something that nobody has settled.
    pub(super) fn holds(&self) -> bool {
        self.shares.values().any(|share| share.is_open)
    }

    /// The rule cannot be judged any more.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.stopped.get_or_insert_with(|| Verdict::Unjudged(reason.to_owned()));
    }

    /// What was found, when the script has been played.
    pub(super) fn finish(self, attack: &Attack) -> Finding {
        let commits = self.commits();
        let verdict = match self.stopped {
            Some(verdict) => verdict,
            None if self.judged == 0 => Verdict::LeftOut("it is asked for no prepare (--prepare)"),
            None => attack.effects(self.change, commits),
        };
        Finding { rule: self.rule, verdict, exchanges: self.exchanges }
    }

    /// How many commits were confirmed.
    pub(super) fn commits(&self) -> u32 {
        self.shares.values().map(|share| u32::from(share.is_committed)).sum()
    }

    /// The first call of all.
    pub(super) fn first(&self) -> Option<&Exchange> {
        self.exchanges.first()
    }

    /// What it has changed of what is shown.
    pub(super) fn change(&self) -> Result<Shown, String> {
        self.change.clone()
    }

    async fn call(&mut self, attack: &mut Attack, calls: &'static [Call]) {
        let mut prepared = Vec::new();
        for call in calls {
            if call.operation == Operation::Prepare && !attack.has_prepare() {
                continue;
            }
            if self.shares.get(&call.share).is_some_and(|share| share.is_read_only)
                && call.operation != Operation::Work
            {
                return self.give_up("it votes read-only, and is left out of what follows");
            }
            prepared.push((call, self.prepare(attack, *call)));
        }
        let asked: Vec<_> = prepared.iter().map(|(call, _)| *call).collect();
        let answers = attack.ask_all(prepared).await;
        let is_work_refused = |tries: &Vec<Exchange>| {
            let last = tries.last().expect("a call is tried at least once");
            last.operation == Operation::Work && matches!(last.meaning(), Answer::No(_))
        };
        // A no to every copy is a no.
        let is_nothing_done = calls.len() > 1 && answers.iter().all(is_work_refused);
        for (call, exchanges) in asked.into_iter().zip(answers) {
            let last = exchanges.last().expect("a call is tried at least once").clone();
            self.note(call.share, &last);
            let found = blame(call.expected, &last);
            self.exchanges.extend(exchanges);
            let is_work = call.operation == Operation::Work && !call.is_impossible;
            match found {
                None => self.judged += usize::from(call.is_judged),
                Some(found) if call.is_judged && !is_nothing_done => {
                    self.stopped = self.stopped.take().or(Some(Verdict::Broken(found)));
                }
                Some(_) if is_work && self.holds_beside(call.share) => {
                    self.stopped.get_or_insert(Verdict::LeftOut(ONE_AT_A_TIME));
                }
                Some(found) => {
                    self.is_turned_away = is_work;
                    let is_refused = matches!(last.meaning(), Answer::No(_)) && !call.is_impossible;
                    let hint = if is_refused { "; has it run out of what --body asks for?" } else { "" };
                    self.give_up(&format!("before it can be judged: {found}{hint}"));
                }
            }
        }
    }

    fn holds_beside(&self, share: Share) -> bool {
        self.shares.iter().any(|(other, standing)| *other != share && standing.is_open)
    }

    /// The call as the node makes it.
    fn prepare(&mut self, attack: &Attack, call: Call) -> participant::Call {
        let Call { operation, share, is_impossible, .. } = call;
        let begin = || attack.begin(is_impossible, share.is_of_another_node);
        let transaction = self.transactions.entry(share.transaction).or_insert_with(|| {
            let (id, plan, work) = begin();
            Transaction { id, plan, work, decision: None }
        });
        let decision = match operation {
            Operation::Commit => Some(Decision::Commit),
            Operation::Abort => Some(Decision::Abort),
            Operation::Work | Operation::Prepare => None,
        };
        if let (None, Some(decision)) = (transaction.decision, decision) {
            transaction.decision = Some(decision);
            attack.decided(transaction.id, decision);
        }
        let asked = self.attempts.get(&(share, operation.name())).copied().unwrap_or_default();
        participant::Call {
            transaction: transaction.id,
            plan: transaction.plan.clone(),
            branch: Branch::new(usize::from(share.branch)).expect("no script has more branches than a plan"),
            operation,
            attempt: asked + 1,
            work: (operation == Operation::Work).then(|| transaction.work.clone()),
            endpoint: None,
        }
    }

    fn note(&mut self, share: Share, last: &Exchange) {
        self.attempts.insert((share, last.operation.name()), last.attempt);
        let standing = self.shares.entry(share).or_default();
        standing.is_read_only |= last.is_read_only();
        let is_done = matches!(last.meaning(), Answer::Done { .. });
        match last.operation {
            // Where there is no answer it may have been done.
            Operation::Work => standing.is_open |= !matches!(last.meaning(), Answer::No(_)),
            Operation::Prepare => {}
            Operation::Commit => {
                standing.is_committed |= is_done;
                standing.is_open &= !is_done;
            }
            Operation::Abort => standing.is_open &= !is_done,
        }
    }

    /// Settles what is still open, as a node would in the end: in its last life, and in no other.
    async fn clean_up(&mut self, attack: &mut Attack) {
        let open = self.shares.iter().filter(|(_, standing)| standing.is_open && !standing.is_read_only);
        for share in open.map(|(share, _)| *share).collect::<Vec<_>>() {
            let decision =
                self.transactions.get(&share.transaction).and_then(|transaction| transaction.decision);
            let operation = match decision {
                Some(Decision::Commit) => Operation::Commit,
                Some(Decision::Abort) | None => Operation::Abort,
            };
            let call = Call { share, epoch: self.rule.last_epoch(share), ..given(operation) };
            let asked = self.prepare(attack, call);
            let answers = attack.ask_all(vec![(&call, asked)]).await;
            if let Some(last) = answers.first().and_then(|exchanges| exchanges.last()) {
                self.note(share, last);
            }
        }
    }
}
