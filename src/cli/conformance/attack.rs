//! The whole attack: every rule in turn, those with a restart together, and a look at every answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::ConformanceError;
use super::coordinator::Coordinator;
use super::finding::{Finding, Verdict};
use super::look::{Shown, Unit};
use super::play::Play;
use super::report::Report;
use super::restart::Restarter;
use super::rules::{Kind, RULES, Rule, Trial};
use super::script::{Call, Expected};
use super::sender::{Exchange, Heard, Sender};
use super::target::Target;
use crate::clock::{Clock, SystemClock};
use crate::participant::{self, Answer, Work};
use crate::plan::{Plan, TransactionId};
use crate::txn::{Decision, Operation};

/// The wait before a call is tried again: the first one, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Each time that all patience was used up halves it, so that a run against a participant that never answers ends, but no
/// more often than this: one that answers again is given all of it again.
const HALVINGS_MAX: u32 = 3;

/// Longer than a clock in seconds stands still: what moves by itself has moved after that.
const TICK: Duration = Duration::from_millis(1_100);

/// Why nothing can be said of what it did.
const UNSEEN: &str = "nothing was looked at (--look)";

/// Everything that calls a participant.
#[derive(Debug)]
pub(super) struct Attack {
    target: Target,
    sender: Sender,
    coordinator: Coordinator,
    restarter: Restarter,
    limits: Limits,
    /// Where the participant shows its work.
    look: Option<String>,
    /// By how much one transaction changes what is shown, or why nothing can be said of that.
    unit: Result<Unit, String>,
    /// Rules about every answer, with the first one that breaks it.
    watched: BTreeMap<&'static str, (String, Exchange)>,
    /// How often in a row all patience with an operation was used up.
    exhausted: BTreeMap<&'static str, u32>,
}

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long a call is tried again where the answer is 425, 5xx or none.
    pub(super) patience: Duration,
    /// For a restart.
    pub(super) restart: Duration,
    /// How long a promise has to hold.
    pub(super) hold: Duration,
    /// From an answer to the look at what it changed.
    pub(super) lag: Duration,
}

impl Attack {
    pub(super) fn new(
        target: Target,
        sender: Sender,
        coordinator: Coordinator,
        restarter: Restarter,
        limits: Limits,
        look: Option<String>,
    ) -> Self {
        let unit = Err(UNSEEN.to_owned());
        let (watched, exhausted) = (BTreeMap::new(), BTreeMap::new());
        Self { target, sender, coordinator, restarter, limits, look, unit, watched, exhausted }
    }

    /// Tries these rules; each is reported as soon as it is judged. The usual one always comes first.
    pub(super) async fn run(
        mut self,
        rules: &[&'static Rule],
        report: &mut Report<'_>,
    ) -> Result<(), ConformanceError> {
        let works = self.usual(report).await?;
        let plays = |attack: &Self, kind: Kind| -> Vec<Play> {
            let rules = rules.iter().filter(|rule| rule.kind() == kind);
            rules.map(|rule| Play::new(rule, attack.obstacle(rule, works))).collect()
        };
        for mut play in plays(&self, Kind::Plain) {
            play.go_on(&mut self).await;
            report.add(&play.finish(&self))?;
        }
        let restarted = plays(&self, Kind::Restarted);
        let shown = rules.iter().copied().find(|rule| rule.kind() == Kind::Shown);
        let shown = shown.map(|rule| (rule, self.obstacle(rule, works).unwrap_or(Verdict::Kept)));
        self.through_restarts(restarted, shown, report).await?;
        for rule in rules.iter().filter(|rule| rule.kind() == Kind::Every) {
            report.add(&self.every(rule))?;
        }
        report.end(self.unit.as_ref().err().map(String::as_str), self.look.is_some())?;
        self.coordinator.caught_up().await;
        Ok(())
    }

    /// The usual course; whether it works, and what it changes of what is shown.
    async fn usual(&mut self, report: &mut Report<'_>) -> Result<bool, ConformanceError> {
        let usual = || Play::new(Rule::usual(), None);
        let seen = match &self.look {
            Some(_) => self.see().await.map(drop),
            None => Err(UNSEEN.to_owned()),
        };
        let mut first = usual();
        first.go_on(self).await;
        if let Some(exchange) = first.first() {
            match (&exchange.heard, exchange.meaning()) {
                (Heard::NeverSent(reason), _) => {
                    return Err(ConformanceError::Unreachable {
                        url: exchange.url.clone(),
                        reason: reason.clone(),
                    });
                }
                (Heard::Answered(answered), Answer::No(_)) => {
                    let (status, said) = (answered.status, super::report::said(&answered.text));
                    return Err(ConformanceError::Refused { url: exchange.url.clone(), status, said });
                }
                (Heard::Answered(_) | Heard::Broken(_) | Heard::Late, _) => {}
            }
        }
        let one = first.change();
        let finding = first.finish(self);
        let works = finding.verdict == Verdict::Kept;
        report.add(&finding)?;
        self.unit = match (works, seen) {
            (_, Err(reason)) => Err(reason),
            (false, Ok(())) => Err("the usual course does not work".to_owned()),
            (true, Ok(())) => {
                let (mut other, mut aborted) = (usual(), Play::new(Rule::abort(), None));
                other.go_on(self).await;
                let before = self.see().await;
                aborted.go_on(self).await;
                sleep(TICK).await;
                let after = self.see().await;
                let aborted = before.and_then(|before| Ok(after?.since(&before)));
                one.and_then(|one| Unit::of(&one, &other.change()?, &aborted?))
            }
        };
        Ok(works)
    }

    /// What stands in the way of a rule.
    fn obstacle(&self, rule: &Rule, works: bool) -> Option<Verdict> {
        let needs_restart = matches!(rule.kind(), Kind::Restarted | Kind::Shown);
        let needs_refusal = rule.calls().any(|call| call.is_impossible) && !self.target.has_impossible();
        if !works {
            Some(Verdict::Unjudged("the usual course does not work".to_owned()))
        } else if needs_refusal {
            Some(Verdict::LeftOut("it is not known what it has to refuse (--refused-body)"))
        } else if needs_restart && self.restarter == Restarter::Nobody {
            Some(Verdict::LeftOut("it is not restarted (--restart-command or --ask-restart)"))
        } else if rule.kind() == Kind::Shown && self.look.is_none() {
            Some(Verdict::LeftOut(UNSEEN))
        } else {
            None
        }
    }

    /// Plays scripts with a restart; what is shown is kept over all restarts, or over one it is not.
    async fn through_restarts(
        &mut self,
        mut plays: Vec<Play>,
        mut shown: Option<(&'static Rule, Verdict)>,
        report: &mut Report<'_>,
    ) -> Result<(), ConformanceError> {
        loop {
            let verdict = shown.as_mut().map(|(_, verdict)| verdict);
            plays = self.through_a_restart(plays, verdict, report).await?;
            if plays.is_empty() {
                break;
            }
        }
        if let Some((rule, verdict)) = shown {
            report.add(&Finding { rule, verdict, exchanges: Vec::new() })?;
        }
        Ok(())
    }

    /// Plays every script up to its restart, restarts once, and plays the rest. Where a promise of one is in the way of
    /// another one, the other one is left for the next restart.
    async fn through_a_restart(
        &mut self,
        scripts: Vec<Play>,
        shown: Option<&mut Verdict>,
        report: &mut Report<'_>,
    ) -> Result<Vec<Play>, ConformanceError> {
        let (settled, mut plays): (Vec<_>, Vec<_>) = scripts.into_iter().partition(Play::is_settled_early);
        for play in &mut plays {
            play.go_on(self).await;
        }
        // A promise may be shown; from here on only commits change anything.
        let before = self.see().await;
        for mut play in settled {
            play.go_on_unseen(self).await;
            plays.push(play);
        }
        let is_held = plays.iter().any(|play| play.holds() && !play.is_turned_away());
        let (left, mut plays): (Vec<_>, Vec<_>) =
            plays.into_iter().partition(|play| is_held && play.is_turned_away());
        let shown = shown.filter(|verdict| **verdict == Verdict::Kept);
        let is_needed = plays.iter().any(Play::goes_on) || shown.is_some();
        let commits = plays.iter().map(Play::commits).sum();
        let restarted = if is_needed {
            self.restarter
                .restart(&self.target.endpoints, self.target.options.speaks, self.limits.restart)
                .await
        } else {
            Ok(())
        };
        self.sender.renew()?;
        let after = if is_needed && restarted.is_ok() { self.see_again().await } else { self.see().await };
        if let Err(reason) = &restarted {
            for play in &mut plays {
                play.give_up(reason);
            }
        }
        for mut play in plays {
            play.go_on(self).await;
            report.add(&play.finish(self))?;
        }
        if let Some(verdict) = shown {
            *verdict = restarted.map_or_else(Verdict::Unjudged, |()| self.same(before, after, commits));
        }
        Ok(left.iter().map(Play::anew).collect())
    }

    fn same(&self, before: Result<Shown, String>, after: Result<Shown, String>, commits: u32) -> Verdict {
        if let Err(reason) = &self.unit {
            return Verdict::Unjudged(reason.clone());
        }
        match self.effects(before.and_then(|before| Ok(after?.since(&before))), commits) {
            Verdict::Broken(blame) => {
                Verdict::Broken(format!("over the restart and the calls before it {blame}"))
            }
            verdict @ (Verdict::Kept | Verdict::Unjudged(_) | Verdict::LeftOut(_)) => verdict,
        }
    }

    /// What was found of a rule about every answer.
    fn every(&mut self, rule: &'static Rule) -> Finding {
        match self.watched.remove(rule.id) {
            Some((reason, exchange)) => {
                Finding { rule, verdict: Verdict::Broken(reason), exchanges: vec![exchange] }
            }
            None => Finding { rule, verdict: Verdict::Kept, exchanges: Vec::new() },
        }
    }

    pub(super) fn has_prepare(&self) -> bool {
        self.target.options.prepare.is_some()
    }

    /// A new transaction.
    pub(super) fn begin(
        &self,
        is_impossible: bool,
        of_another_node: bool,
    ) -> (TransactionId, Arc<Plan>, Work) {
        let (plan, work) = self.target.begin(is_impossible, SystemClock.now());
        (self.coordinator.begin(of_another_node), plan, work)
    }

    pub(super) fn decided(&self, id: TransactionId, decision: Decision) {
        self.coordinator.decided(id, decision);
    }

    /// Lets a promise wait.
    pub(super) async fn hold(&self) {
        sleep(self.limits.hold).await;
    }

    /// From now on the node is in its next life.
    pub(super) fn next_life(&mut self) {
        self.coordinator.next_life();
    }

    /// Makes calls at the same time, each until it has an answer that counts; all tries of each.
    pub(super) async fn ask_all(&mut self, calls: Vec<(&Call, participant::Call)>) -> Vec<Vec<Exchange>> {
        let is_patient: Vec<_> = calls.iter().map(|(call, _)| call.expected != Expected::Any).collect();
        let tries = join_all(calls.into_iter().map(|(call, asked)| self.ask(call, asked))).await;
        for exchange in tries.iter().flatten() {
            for rule in RULES {
                if let Trial::Every(look) = rule.trial
                    && let Some(reason) = look(exchange)
                {
                    self.watched.entry(rule.id).or_insert_with(|| (reason, exchange.clone()));
                }
            }
        }
        let mut used_up = BTreeSet::new();
        for (last, is_patient) in tries.iter().filter_map(|tries| tries.last()).zip(is_patient) {
            if !is_open(last) {
                self.exhausted.remove(last.operation.name());
            } else if is_patient {
                used_up.insert(last.operation.name());
            }
        }
        // Copies at once have waited at the same time.
        for operation in used_up {
            *self.exhausted.entry(operation).or_default() += 1;
        }
        tries
    }

    fn patience(&self, operation: Operation) -> Duration {
        let halvings = self.exhausted.get(operation.name()).copied().unwrap_or_default();
        self.limits.patience / 2_u32.pow(halvings.min(HALVINGS_MAX))
    }

    async fn ask(&self, call: &Call, mut asked: participant::Call) -> Vec<Exchange> {
        let coordinator = self.coordinator.sender(call.share, call.epoch);
        let patience = match call.expected {
            Expected::Any => Duration::ZERO,
            Expected::Yes | Expected::No => self.patience(call.operation),
        };
        let (began, mut wait, mut tries) = (Instant::now(), RETRY.0, Vec::new());
        loop {
            // From try to try at another instance, as a node does.
            let turn = usize::try_from(asked.attempt - 1).unwrap_or_default() % self.target.endpoints.len();
            let endpoint = self.target.endpoints.get(turn).expect("there is at least one");
            let exchange = self.sender.send(&asked, &coordinator, endpoint).await;
            let (is_open, meaning) = (is_open(&exchange), exchange.meaning());
            tries.push(exchange);
            let left = patience.saturating_sub(began.elapsed());
            if !is_open || left.is_zero() {
                return tries;
            }
            let asked_for = if let Answer::AskAgain(Some(longer)) = meaning { longer } else { wait };
            sleep(asked_for.max(wait).min(left)).await;
            wait = (wait * 2).min(RETRY.1);
            asked = asked.again();
        }
    }

    /// What the participant shows now.
    pub(super) async fn see(&self) -> Result<Shown, String> {
        let Some(url) = &self.look else { return Err(UNSEEN.to_owned()) };
        sleep(self.limits.lag).await;
        Shown::parse(&self.sender.look(url).await?)
    }

    /// What the participant shows after a restart: one that is still coming up is looked at again.
    async fn see_again(&self) -> Result<Shown, String> {
        let (began, within) = (Instant::now(), self.limits.restart);
        loop {
            match self.see().await {
                Err(reason) if self.look.is_some() => {
                    let Some(left) = within.checked_sub(began.elapsed()) else {
                        return Err(format!(
                            "it did not show its work within {within:?} of the restart (--restart-within): {reason}"
                        ));
                    };
                    sleep(left.min(RETRY.1)).await;
                }
                seen => return seen,
            }
        }
    }

    /// What so many commits have to change of what is shown.
    pub(super) fn changed_by(&self, commits: u32) -> Shown {
        self.unit.as_ref().map_or_else(|_| Shown::default(), |unit| unit.of_commits(commits))
    }

    /// Whether what was confirmed is what is shown.
    pub(super) fn effects(&self, change: Result<Shown, String>, commits: u32) -> Verdict {
        let Ok(unit) = &self.unit else { return Verdict::Kept };
        match change.map(|change| unit.blame(&change, commits)) {
            Err(reason) => Verdict::Unjudged(reason),
            Ok(None) => Verdict::Kept,
            Ok(Some(blame)) => {
                let confirmed = match commits {
                    0 => "no commit was confirmed".to_owned(),
                    1 => "one commit was confirmed".to_owned(),
                    more => format!("{more} commits were confirmed"),
                };
                Verdict::Broken(format!("{confirmed}, and {blame}"))
            }
        }
    }
}

/// Whether a node would ask again.
fn is_open(exchange: &Exchange) -> bool {
    matches!(exchange.meaning(), Answer::AskAgain(_))
}
