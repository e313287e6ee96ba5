//! What to do about a broken rule, in a sentence. It follows from how the rule is tried.

use super::rules::{Kind, Rule};
use super::script::{Call, Epoch, Expected};

const TO_THE_DISK: &str = "Have what you answer 2xx on the disk before the answer leaves, with its Transaction-Id and \
    Transaction-Branch, and go on from there when you are started.";
const FOR_EVER: &str = "Let nothing but a commit or an abort end a promise: no timeout, and no job that tidies up. Where it takes \
    too long, ask the URL in Transaction-Coordinator.";
const ONE_AT_A_TIME: &str = "Look up what you know and write what you do in one serializable transaction of your database, or under \
    one lock; or let a unique key on Transaction-Id and Transaction-Branch decide.";
const BY_NODE: &str = "Leave Transaction-Epoch alone, or refuse a call only where the same node has sent a greater one before. Tell \
    nodes by scheme, host and port of Transaction-Coordinator.";
const BY_NAME: &str = "Let Transaction-Id and Transaction-Branch together be the key of a piece of work, and nothing else: not the \
    body, and not the transaction alone.";
const REFUSE: &str = "Decide whether the work can be done before you answer it. If not, write `refused` down under its \
    Transaction-Id and Transaction-Branch, and answer 409 now and ever after; 2xx to its abort.";
const CONTRADICT: &str = "Write down what became of each Transaction-Id and Transaction-Branch, also that something you never saw was \
    aborted, and keep it after the end. Answer 409 to a call that does not fit it.";
const REPEAT: &str = "Write down what became of each Transaction-Id and Transaction-Branch, also that something you never saw was \
    aborted, and keep it after the end. Answer a repeat from that, 2xx, and do nothing.";

/// What to do where this rule is broken; nothing where the rule says it itself.
pub(super) fn mend(rule: &Rule) -> Option<&'static str> {
    let has = |is_wanted: fn(&Call) -> bool| rule.calls().any(is_wanted);
    match rule.kind() {
        Kind::Usual | Kind::Every => None,
        Kind::Restarted | Kind::Shown => Some(TO_THE_DISK),
        Kind::Plain if rule.is_held() => Some(FOR_EVER),
        Kind::Plain if rule.is_at_once() => Some(ONE_AT_A_TIME),
        Kind::Plain if has(|call| call.epoch != Epoch::Now) => Some(BY_NODE),
        Kind::Plain if has(|call| call.share.transaction > 0 || call.share.branch > 0) => Some(BY_NAME),
        Kind::Plain if has(|call| call.is_impossible) => Some(REFUSE),
        Kind::Plain if has(|call| call.is_judged && call.expected == Expected::No) => Some(CONTRADICT),
        Kind::Plain => Some(REPEAT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::conformance::rules::RULES;

    #[test]
    fn what_is_advised_fits_what_is_tried() {
        let advice = |id: &str| mend(RULES.iter().find(|rule| rule.id == id).unwrap());
        assert_eq!(advice("commit-again"), Some(REPEAT));
        assert_eq!(advice("abort-before-work"), Some(REPEAT));
        assert_eq!(advice("late-work"), Some(CONTRADICT));
        assert_eq!(advice("commit-before-work"), Some(CONTRADICT));
        assert_eq!(advice("work-at-once"), Some(ONE_AT_A_TIME));
        assert_eq!(advice("abort-beside-work"), Some(ONE_AT_A_TIME));
        assert_eq!(advice("abort-after-refusal"), Some(REFUSE));
        assert_eq!(advice("two-branches"), Some(BY_NAME));
        assert_eq!(advice("another-node"), Some(BY_NODE));
        assert_eq!(advice("promise-holds"), Some(FOR_EVER));
        assert_eq!(advice("effects-survive"), Some(TO_THE_DISK));
        assert_eq!((advice("usual"), advice("vote")), (None, None));
    }
}
