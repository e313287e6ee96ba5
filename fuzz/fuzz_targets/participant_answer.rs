//! Only a clear 2xx counts as done; only a clear 4xx as a contradiction; whatever else a participant answers, nobody is
//! told that something happened, and a work call that may have arrived is not sent again.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use unanimous::participant::answer::{Answer, Outcome, meaning};
use unanimous::plan::Reply;
use unanimous::txn::{Loss, Operation, Vote};

#[derive(Debug, Arbitrary)]
enum Heard<'a> {
    Answer { status: u16, kind: Option<&'a str>, body: &'a [u8], read_only: bool, wait: Option<Duration> },
    NeverSent,
    Broken,
    Late,
}

fuzz_target!(|input: (u8, Heard<'_>)| {
    let operations = [Operation::Work, Operation::Prepare, Operation::Commit, Operation::Abort];
    let operation = operations[usize::from(input.0 % 4)];
    let (status, outcome) = match input.1 {
        Heard::Answer { status, kind, body, read_only, wait } => {
            (Some(status), answered(status, kind, body, read_only, wait))
        }
        Heard::NeverSent => (None, Outcome::NeverSent),
        Heard::Broken => (None, Outcome::Broken(None)),
        Heard::Late => (None, Outcome::Late),
    };
    let (is_work, is_told) =
        (operation == Operation::Work, matches!(operation, Operation::Commit | Operation::Abort));
    let refuses = matches!(status, Some(400..=499)) && status != Some(425);
    let is_gone = operation == Operation::Abort && matches!(status, Some(404 | 410));
    match meaning(operation, outcome.clone()) {
        Answer::Done { .. } => assert!(matches!(status, Some(200..=299)) || is_gone),
        Answer::No(_) => assert!(refuses && !is_told),
        Answer::Contradiction(_) => assert!(refuses && is_told && !is_gone),
        Answer::Lost(Loss::NeverSent, _) => assert!(is_work && outcome == Outcome::NeverSent),
        Answer::Lost(..) => assert!(is_work && !refuses && outcome != Outcome::NeverSent),
        Answer::AskAgain(_) => assert!(status == Some(425) || !is_work, "work is never sent twice"),
    }
});

fn answered(
    status: u16,
    kind: Option<&str>,
    body: &[u8],
    read_only: bool,
    retry_after: Option<Duration>,
) -> Outcome {
    let reply = Reply { status, content_type: kind.map(str::to_owned), body: body.to_vec().into() };
    let vote = if read_only { Vote::ReadOnly } else { Vote::Yes };
    Outcome::Answered { reply, vote, retry_after }
}
