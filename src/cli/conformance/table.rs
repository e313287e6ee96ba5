//! The table of rules, in the order in which they are tried.

use Operation::{Abort, Commit, Prepare, Work};
use Step::{AtOnce, Call as One, Hold, Restart};

use super::rules::{ABORT, Rule, Trial, USUAL, broken, late, odd_vote, unclear};
use super::script::{Step, any, given, given_no, no, yes};
use crate::txn::Operation;

/// How many copies of a call arrive at once.
const COPIES: usize = 8;

/// The rules, in the order in which they are tried.
pub const RULES: &[Rule] = &[
    // The usual course.
    Rule {
        id: USUAL,
        says: "Work that can be done is answered 2xx; so are its prepare and its commit.",
        why: "Nothing else can be judged before this works.",
        trial: Trial::Script(&[One(yes(Work)), One(yes(Prepare)), One(yes(Commit))]),
    },
    Rule {
        id: ABORT,
        says: "What was promised can be aborted.",
        why: "Whenever another branch says no, this one is told to let go. If it cannot, an operator has to.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(yes(Abort))]),
    },
    // Repeats.
    Rule {
        id: "work-again",
        says: "A repeat of the work is answered 2xx, and the work is done once.",
        why: "A proxy on the way may send a call twice. A no to the second copy aborts what the first one promised; \
              doing it again takes the money twice.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(yes(Work)),
            One(given(Prepare)),
            One(yes(Work)),
            One(given(Commit)),
        ]),
    },
    Rule {
        id: "prepare-again",
        says: "A repeat of prepare is answered 2xx.",
        why: "The node asks again whenever an answer is lost. A no to the second question aborts the transaction for nothing.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(yes(Prepare))]),
    },
    Rule {
        id: "commit-again",
        says: "A repeat of the commit is answered 2xx, and changes nothing more.",
        why: "The node tells a commit until it has heard a 2xx, and tells it again after every restart. A 4xx parks the branch \
              for an operator; committing twice takes the money twice.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Commit)),
            One(yes(Commit)),
            One(yes(Commit)),
        ]),
    },
    Rule {
        id: "abort-again",
        says: "A repeat of the abort is answered 2xx, and changes nothing more.",
        why: "The node tells an abort until it has heard a 2xx. A 4xx parks the branch; letting go twice gives back what was \
              never taken.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Abort)), One(yes(Abort))]),
    },
    Rule {
        id: "work-after-commit",
        says: "A repeat of the work that arrives after the commit is answered 2xx, and is not done again.",
        why: "A copy of a call can be held up on the way for as long as it likes. What was forgotten at the commit is done twice.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Commit)), One(yes(Work))]),
    },
    Rule {
        id: "prepare-after-commit",
        says: "A repeat of prepare that arrives after the commit is answered 2xx.",
        why: "It is a repeat of something finished. A no says that the promise was not kept, while it was.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Commit)), One(yes(Prepare))]),
    },
    // Copies at once.
    Rule {
        id: "work-at-once",
        says: "Eight copies of the work at the same time are all answered 2xx, and the work is done once.",
        why: "Look first and write later lets two copies in: both look before either has written.",
        trial: Trial::Script(&[AtOnce(&[yes(Work); COPIES]), One(given(Prepare)), One(given(Commit))]),
    },
    Rule {
        id: "prepare-at-once",
        says: "Eight copies of prepare at the same time are all answered 2xx.",
        why: "The first may be late and not lost when the second is sent. A no to either aborts the transaction.",
        trial: Trial::Script(&[One(given(Work)), AtOnce(&[yes(Prepare); COPIES]), One(given(Commit))]),
    },
    Rule {
        id: "commit-at-once",
        says: "Eight copies of the commit at the same time are all answered 2xx, and it is committed once.",
        why: "A commit that timed out may still be at work when it is told again. Both must not post the money.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), AtOnce(&[yes(Commit); COPIES])]),
    },
    Rule {
        id: "abort-at-once",
        says: "Eight copies of the abort at the same time are all answered 2xx, and it lets go once.",
        why: "An abort that timed out may still be at work when it is told again. Both must not give the money back.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), AtOnce(&[yes(Abort); COPIES])]),
    },
    Rule {
        id: "abort-beside-work",
        says: "Where work and its abort arrive at the same time the abort wins: it is answered 2xx, and work that comes \
               again is refused.",
        why: "The node aborts work that is late while that is still being done. What is promised after the abort is held for ever.",
        trial: Trial::Script(&[AtOnce(&[any(Work), yes(Abort)]), One(no(Work))]),
    },
    // Order.
    Rule {
        id: "abort-before-work",
        says: "An abort of something never seen is answered 2xx (or 404 or 410).",
        why: "The node cannot know whether lost work arrived, so it tells an abort to be safe. A contradiction parks a branch \
              at which nothing happened.",
        trial: Trial::Script(&[One(yes(Abort))]),
    },
    Rule {
        id: "late-work",
        says: "Work that arrives after its abort is refused.",
        why: "Nobody will ever commit or abort it again. What it reserves is reserved for ever.",
        trial: Trial::Script(&[One(given(Abort)), One(no(Work)), One(no(Work))]),
    },
    Rule {
        id: "abort-after-late-work",
        says: "An abort that is repeated after late work is answered 2xx.",
        why: "The node may not have heard the first answer. A contradiction parks a branch at which all is well.",
        trial: Trial::Script(&[One(given(Abort)), One(any(Work)), One(yes(Abort))]),
    },
    Rule {
        id: "work-after-abort",
        says: "A repeat of work that was done and then aborted is refused.",
        why: "It is late work like any other: what was forgotten at the abort is promised again, and held for ever.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Abort)), One(no(Work))]),
    },
    Rule {
        id: "prepare-after-abort",
        says: "A prepare that arrives after the abort is refused.",
        why: "A yes promises what was let go.",
        trial: Trial::Script(&[One(given(Work)), One(given(Abort)), One(no(Prepare))]),
    },
    Rule {
        id: "prepare-before-work",
        says: "A prepare of something never seen is refused.",
        why: "The participant may have lost the work in a crash. A yes promises what it cannot do.",
        trial: Trial::Script(&[One(no(Prepare))]),
    },
    Rule {
        id: "commit-before-work",
        says: "A commit of something never seen is refused.",
        why: "A participant that lost its promise and says 2xx tells the client that money moved, while it did not. Only a \
              4xx calls for an operator.",
        trial: Trial::Script(&[One(no(Commit))]),
    },
    Rule {
        id: "commit-after-abort",
        says: "A commit of something aborted is refused.",
        why: "A 2xx hides that this branch did the opposite of what was decided.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Abort)), One(no(Commit))]),
    },
    Rule {
        id: "abort-after-commit",
        says: "An abort of something committed is refused, and not with 404 or 410.",
        why: "A 2xx, a 404 and a 410 all say that nothing is left to undo, while the work was done and stays done.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(given(Commit)), One(no(Abort))]),
    },
    // Refusals.
    Rule {
        id: "refusal",
        says: "Work that cannot be done is refused with a 4xx.",
        why: "A 5xx or no answer leaves open whether it was done; 425 asks to be asked again. Only a 4xx says no.",
        trial: Trial::Script(&[One(no(Work).impossible())]),
    },
    Rule {
        id: "refusal-again",
        says: "Work that was refused is refused again.",
        why: "If the repeat is a yes, the node may hear the no and the participant hold what it then promised.",
        trial: Trial::Script(&[One(given_no(Work).impossible()), One(no(Work).impossible())]),
    },
    Rule {
        id: "prepare-after-refusal",
        says: "A prepare of work that was refused is refused.",
        why: "A yes promises what it cannot do.",
        trial: Trial::Script(&[One(given_no(Work).impossible()), One(no(Prepare).impossible())]),
    },
    Rule {
        id: "commit-after-refusal",
        says: "A commit of work that was refused is refused.",
        why: "A 2xx tells the client that something was done which was not.",
        trial: Trial::Script(&[One(given_no(Work).impossible()), One(no(Commit).impossible())]),
    },
    Rule {
        id: "abort-after-refusal",
        says: "An abort of work that was refused is answered 2xx (or 404 or 410).",
        why: "The no can be lost on the way, so the branch is told to abort all the same.",
        trial: Trial::Script(&[One(given_no(Work).impossible()), One(yes(Abort).impossible())]),
    },
    // What belongs together.
    Rule {
        id: "another-branch",
        says: "A commit of a branch that it never saw is refused, also where it knows another branch of that transaction.",
        why: "One service may take part twice. Only `Transaction-Id` and `Transaction-Branch` together name a piece of work.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(no(Commit).of_branch_1())]),
    },
    Rule {
        id: "two-branches",
        says: "Two branches of one transaction are two pieces of work, and both are done.",
        why: "Taken for a repeat, the second one is answered 2xx and never done.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Work).of_branch_1()),
            One(given(Prepare)),
            One(yes(Prepare).of_branch_1()),
            One(yes(Commit)),
            One(yes(Commit).of_branch_1()),
        ]),
    },
    Rule {
        id: "two-transactions",
        says: "Two transactions with the same work are two pieces of work: one can be aborted and the other committed.",
        why: "Many are under way at the same time, and two clients may ask for the same.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Work).of_another()),
            One(given(Prepare)),
            One(yes(Prepare).of_another()),
            One(yes(Abort)),
            One(yes(Commit).of_another()),
        ]),
    },
    // The life of the node.
    Rule {
        id: "greater-epoch",
        says: "What was promised to the node is committed for the node after its restart, when `Transaction-Epoch` is greater.",
        why: "A restarted node goes on with what it finds in its log. A participant that takes it for a stranger never hears the end.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), One(yes(Commit).of_next_life())]),
    },
    Rule {
        id: "smaller-epoch",
        says: "A call with a smaller `Transaction-Epoch` than before may be refused; the same call with the greater one is \
               then answered 2xx.",
        why: "A call of the node's former life can arrive late. It must not spoil what the present one asks for.",
        trial: Trial::Script(&[
            One(given(Work).of_next_life()),
            One(given(Prepare).of_next_life()),
            One(any(Commit)),
            One(yes(Commit).of_next_life()),
        ]),
    },
    Rule {
        id: "another-node",
        says: "A smaller `Transaction-Epoch` of another node is no reason to refuse.",
        why: "Each node counts its own starts. Whoever compares them across nodes refuses everything that the younger one asks.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Commit)),
            One(yes(Work).of_another_node()),
            One(yes(Prepare).of_another_node()),
            One(yes(Commit).of_another_node()),
        ]),
    },
    // Time.
    Rule {
        id: "promise-holds",
        says: "A promise holds until the coordinator speaks, however long that takes.",
        why: "The node may be down for days. A promise that ends by itself leaves this branch undone while the others are done.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), Hold, One(yes(Commit))]),
    },
    // Through a restart. The kill comes straight after the last answer of the last script: what is written later is lost.
    Rule {
        id: "promise-survives",
        says: "What was promised before a restart is committed after it; a repeat of that commit is answered 2xx, and changes nothing more.",
        why: "Somebody else may have committed already. A promise that a crash can take is none, and what is found again has to \
              end as any other.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            Restart,
            One(yes(Commit)),
            One(yes(Commit)),
        ]),
    },
    Rule {
        id: "prepare-survives",
        says: "A repeat of prepare after a restart is answered 2xx.",
        why: "The answer may have been lost with the process. A no aborts the transaction for nothing.",
        trial: Trial::Script(&[One(given(Work)), One(given(Prepare)), Restart, One(yes(Prepare))]),
    },
    Rule {
        id: "abort-of-what-survived",
        says: "What was promised before a restart can be aborted after it; a repeat of the work is then refused, and one of that abort answered 2xx.",
        why: "What it reserved has to be found again, or it is reserved for ever; and what is forgotten at the abort is promised \
              again.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            Restart,
            One(yes(Abort)),
            One(no(Work)),
            One(yes(Abort)),
        ]),
    },
    Rule {
        id: "abort-survives",
        says: "Work that arrives after its abort is refused, also when there was a restart between them.",
        why: "An abort that is remembered only until the process ends lets late work in.",
        trial: Trial::Script(&[One(given(Abort)), Restart, One(no(Work))]),
    },
    Rule {
        id: "work-survives-abort",
        says: "A repeat of work that was done and then aborted is refused, also when there was a restart after the abort.",
        why: "Whoever tidies up what was aborted when it starts promises it again, and holds it for ever.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Abort)),
            Restart,
            One(no(Work)),
        ]),
    },
    Rule {
        id: "commit-survives",
        says: "A repeat of the commit after a restart is answered 2xx, and changes nothing more.",
        why: "The node may not have heard the first answer. A contradiction parks a branch that did its part.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Commit)),
            Restart,
            One(yes(Commit)),
        ]),
    },
    Rule {
        id: "work-survives-commit",
        says: "A repeat of the work that arrives after commit and restart is not done again: it is answered 2xx.",
        why: "What is remembered only until the process ends is done twice.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Commit)),
            Restart,
            One(yes(Work)),
        ]),
    },
    Rule {
        id: "abort-survives-commit",
        says: "An abort of what was committed before a restart is refused, and not with 404 or 410.",
        why: "What is answered from memory alone says after a restart that nothing is left to undo, while the work was done and \
              stays done.",
        trial: Trial::Script(&[
            One(given(Work)),
            One(given(Prepare)),
            One(given(Commit)),
            Restart,
            One(no(Abort)),
        ]),
    },
    Rule {
        id: "effects-survive",
        says: "What the participant shows after a restart is all that was committed before it.",
        why: "A commit that was confirmed is done for good.",
        trial: Trial::Shown,
    },
    // Every answer.
    Rule {
        id: "in-time",
        says: "Every call is answered within the timeout.",
        why: "Late work is aborted, and a late confirmation is asked for again: a slow participant is called more and more.",
        trial: Trial::Every(late),
    },
    Rule {
        id: "whole-answers",
        says: "Every answer is whole and is HTTP; that to work has at most 1 MiB.",
        why: "An answer that cannot be read is none. For work that means an abort.",
        trial: Trial::Every(broken),
    },
    Rule {
        id: "clear-answers",
        says: "Every answer is a 2xx, 4xx or 5xx.",
        why: "No redirect is followed. A 3xx says nothing about what was done, so work is aborted and all other calls are asked again.",
        trial: Trial::Every(unclear),
    },
    Rule {
        id: "vote",
        says: "`Transaction-Vote` is `read-only` or left out. A no is a 4xx.",
        why: "A 2xx is a yes whatever else stands in this header: `Transaction-Vote: no` would be taken for a promise.",
        trial: Trial::Every(odd_vote),
    },
];
