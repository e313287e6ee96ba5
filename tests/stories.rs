//! Protocol runs as text that anyone can read: every `tests/stories/*.txt` is played to the machine.
//!
//! A story opens with a comment that says what it is about. Its scenes are separated by a blank line:
//! above `----` what happens, a sentence a line; below it all that the machine then does, in order.
//! `UPDATE_STORIES=1 cargo test --test stories` writes the lower halves anew; read the diff then.
//! It is not a proof: `txn_state_space.rs` visits the states that no story tells of.
//!
//! | what happens | meaning |
//! |---|---|
//! | `begin a b c prepare=a,b deadline=10s` | a transaction of three branches, two of them asked to prepare |
//! | `a says yes` (`no`, `read-only`) | the answer to prepare where that was asked, else to the work call |
//! | `a says yes to work` (`to prepare`) | the answer to just that call, however late |
//! | `a was never reached` | its work call did not leave this node |
//! | `a is unreachable`, `a fails with 503`, `a takes too long` | its work call has no usable answer |
//! | `a confirms`, `a contradicts` | the answer to commit or abort |
//! | `the operator says a committed` (`aborted`) | someone looked what became of a parked branch |
//! | `the clock shows 9s` | so long after the beginning |
//! | `crash and restart` | only what was logged is left |
//! | `the log gains acked a` | a damaged log: a step that the machine did not write |
//!
//! | what the machine does | meaning |
//! |---|---|
//! | `log  ..` | this is on disk before anything below it is done |
//! | `send work a b` | these calls go out (`prepare`, `commit` and `abort` likewise) |
//! | `tell client committed` (`aborted`) | the client may be told |
//! | `wait a b` | nothing yet: these have still to answer |
//! | `nothing changes`, `misfit ..`, `fail ..` | it was heard already; it makes no sense now; the log is wrong |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use unanimous::clock::Timestamp;
use unanimous::txn::{
    Branch, Branches, Decision, Effect, Event, Loss, Reason, Shape, Step, Transition, Txn, Vote, Votes,
};

/// What a branch answers when it says no, or contradicts a decision.
const STATUS_NO: u16 = 409;

/// The machine while a story is played to it.
struct Stage {
    /// What the story calls the branches, in order.
    names: Vec<String>,
    txn: Txn,
    /// What survives a crash.
    log: Vec<Transition>,
    /// What the machine did in this scene.
    done: Vec<String>,
}

#[test]
fn every_story_goes_as_it_is_told() {
    let update = env::var_os("UPDATE_STORIES").is_some();
    let mut wrong = Vec::new();
    for (path, told) in stories() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match play(&told) {
            Ok(played) if played == told => {}
            Ok(played) if update => fs::write(&path, played).unwrap(),
            Ok(played) => wrong.push(format!("{name}: {}", first_difference(&told, &played))),
            Err(problem) => wrong.push(format!("{name}: {problem}")),
        }
    }
    assert!(wrong.is_empty(), "{}\n\nUPDATE_STORIES=1 rewrites them", wrong.join("\n\n"));
}

#[test]
fn every_story_says_what_it_is_about() {
    let stories = stories();
    assert!(!stories.is_empty(), "there are no stories in tests/stories");
    for (path, told) in stories {
        assert!(told.starts_with("# "), "{} must open with a comment", path.display());
    }
}

fn stories() -> BTreeMap<PathBuf, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let files =
        fs::read_dir(folder).expect("tests/stories is there").map(|file| file.expect("readable").path());
    files.map(|path| (path.clone(), fs::read_to_string(path).expect("a story is text"))).collect()
}

/// The story as it should be told.
fn play(story: &str) -> Result<String, String> {
    let mut stage = None;
    let mut scenes = Vec::new();
    for scene in story.trim_end().split("\n\n") {
        let happens: Vec<_> = scene.lines().take_while(|line| *line != "----").collect();
        for line in happens.iter().filter(|line| !line.starts_with('#')) {
            Stage::hear(&mut stage, line).ok_or_else(|| format!("cannot read `{line}`"))?;
        }
        let done = stage.as_mut().map(Stage::end_of_scene).unwrap_or_default();
        scenes.push(format!("{}\n----\n{}\n", happens.join("\n"), done.join("\n")));
    }
    Ok(scenes.join("\n"))
}

fn first_difference(told: &str, played: &str) -> String {
    let scenes = told.split("\n\n").zip(played.split("\n\n"));
    let differs = scenes.into_iter().find(|(told, played)| told.trim_end() != played.trim_end());
    let (told, played) = differs.unwrap_or((told, played));
    format!("told:\n{told}\n\nbut it goes:\n{played}")
}

/// What is heard.
impl Stage {
    /// Plays one line; `None` where nobody can make sense of it.
    fn hear(stage: &mut Option<Self>, line: &str) -> Option<()> {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["begin", branches @ ..] = words.as_slice() {
            *stage = Some(Self::begin(branches)?);
            return Some(());
        }
        let stage = stage.as_mut()?;
        match words.as_slice() {
            ["crash", "and", "restart"] => stage.restart(),
            ["the", "log", "gains", step @ ..] => {
                let step = stage.step(step)?;
                stage.log.push(step);
            }
            happening => {
                let event = stage.event(happening)?;
                stage.advance(event);
            }
        }
        Some(())
    }

    fn begin(words: &[&str]) -> Option<Self> {
        let option = |key| words.iter().find_map(|word| word.strip_prefix(key));
        let names: Vec<_> =
            words.iter().filter(|word| !word.contains('=')).map(ToString::to_string).collect();
        let prepare = option("prepare=").into_iter().flat_map(|list| list.split(','));
        let prepare = prepare.map(|name| branch_in(&names, name)).collect::<Option<Branches>>()?;
        let shape = Shape::new(names.len(), prepare, time(option("deadline=")?)?).ok()?;

        let txn = Txn::begin(shape);
        let by = humantime::format_duration(shape.deadline.since(Timestamp(0)));
        let begun = format!("log  begun {} by {by}", names.join(","));
        let mut stage = Self { names, txn, log: Vec::new(), done: vec![begun] };
        stage.run(&txn.owed());
        Some(stage)
    }

    fn event(&self, words: &[&str]) -> Option<Event> {
        Some(match words {
            ["the", "clock", "shows", at] => Event::Clock(time(at)?),
            ["the", "operator", "says", name, "committed"] => {
                Event::Resolved(self.branch(name)?, Decision::Commit)
            }
            ["the", "operator", "says", name, "aborted"] => {
                Event::Resolved(self.branch(name)?, Decision::Abort)
            }
            [name, happening @ ..] => self.event_of(self.branch(name)?, happening)?,
            [] => return None,
        })
    }

    fn event_of(&self, branch: Branch, words: &[&str]) -> Option<Event> {
        Some(match words {
            ["says", "yes"] => self.vote(branch, Vote::Yes),
            ["says", "read-only"] => self.vote(branch, Vote::ReadOnly),
            ["says", "yes", "to", "work"] => Event::Worked(branch, Vote::Yes),
            ["says", "yes", "to", "prepare"] => Event::Voted(branch, Vote::Yes),
            ["says", "no"] => Event::Refused(branch, STATUS_NO),
            ["was", "never", "reached"] => Event::Lost(branch, Loss::NeverSent),
            ["is", "unreachable"] => Event::Lost(branch, Loss::Unreachable(None)),
            ["fails", "with", status] => Event::Lost(branch, Loss::Unreachable(status.parse().ok())),
            ["takes", "too", "long"] => Event::Lost(branch, Loss::Late),
            ["confirms"] => Event::Confirmed(branch),
            ["contradicts"] => Event::Contradicted(branch, STATUS_NO),
            _ => return None,
        })
    }

    fn vote(&self, branch: Branch, vote: Vote) -> Event {
        let asked = self.log.iter().any(|step| matches!(step, Transition::Preparing { .. }));
        let has_prepare = self.txn.shape().prepare.has(branch);
        if asked && has_prepare { Event::Voted(branch, vote) } else { Event::Worked(branch, vote) }
    }

    /// A step in the words of the log.
    fn step(&self, words: &[&str]) -> Option<Transition> {
        let decided = |decision, votes, reason| Transition::Decided { decision, votes, reason };
        let everyone = Votes { yes: self.txn.shape().branches, ..Votes::default() };
        Some(match words {
            ["preparing"] => Transition::Preparing { read_only: Branches::NONE },
            ["decided", "commit"] => decided(Decision::Commit, everyone, None),
            ["decided", "abort:", "restarted"] => {
                decided(Decision::Abort, Votes::default(), Some(Reason::Restarted))
            }
            ["acked", name] => Transition::Acked(self.branch(name)?),
            ["ended"] => Transition::Ended,
            _ => return None,
        })
    }

    fn branch(&self, name: &str) -> Option<Branch> {
        branch_in(&self.names, name)
    }
}

/// What is done about it, as the coordinator and recovery do.
impl Stage {
    fn advance(&mut self, event: Event) {
        match self.txn.on(event) {
            Step::Advance { transition, next, effects } => {
                self.log.push(transition);
                self.done.push(format!("log  {}", self.words(transition)));
                self.txn = next;
                self.run(&effects);
            }
            Step::Remember(next) => self.txn = next,
            Step::Ignore => self.done.push("nothing changes".to_owned()),
            Step::Violation(_) => {
                self.done.push(format!("misfit for a transaction that is {}", self.txn.state().name()));
            }
        }
    }

    fn restart(&mut self) {
        match Txn::replay(self.txn.shape(), self.log.iter().copied()) {
            Ok(found) => self.txn = found,
            Err(illegal) => return self.done.push(format!("fail {illegal}")),
        }
        if self.txn.decision().is_some() {
            self.run(&self.txn.owed());
        } else {
            self.advance(Event::Restarted);
        }
    }

    fn run(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Tell(decision) => self.done.push(format!("tell client {}", decision.outcome())),
                Effect::Call(operation, branch) => self.send(operation.name(), *branch),
                Effect::End => self.advance(Event::AllTold),
                // `begun .. by` has said it.
                Effect::WakeAt(_) => {}
            }
        }
    }

    /// Calls of one kind share a line.
    fn send(&mut self, operation: &str, branch: Branch) {
        let send = format!("send {operation}");
        let name = self.name(branch).to_owned();
        match self.done.last_mut() {
            Some(line) if line.starts_with(&send) => *line = format!("{line} {name}"),
            Some(_) | None => self.done.push(format!("{send} {name}")),
        }
    }

    fn end_of_scene(&mut self) -> Vec<String> {
        if self.done.is_empty() {
            let called = self.txn.owed().into_iter().filter_map(|effect| match effect {
                Effect::Call(_, branch) => Some(self.name(branch).to_owned()),
                Effect::Tell(_) | Effect::WakeAt(_) | Effect::End => None,
            });
            self.done = vec![format!("wait {}", called.collect::<Vec<_>>().join(" "))];
        }
        std::mem::take(&mut self.done)
    }
}

/// How it is written down.
impl Stage {
    fn words(&self, step: Transition) -> String {
        match step {
            Transition::Preparing { read_only } if read_only.is_empty() => "preparing".to_owned(),
            Transition::Preparing { read_only } => {
                format!("preparing without {}", self.names_of(read_only).join(","))
            }
            Transition::Decided { decision, reason: None, .. } => format!("decided {}", decision.name()),
            Transition::Decided { decision, reason: Some(reason), .. } => {
                format!("decided {}: {}", decision.name(), self.reason(reason))
            }
            Transition::Acked(branch) => format!("acked {}", self.name(branch)),
            Transition::Parked(branch, _) => format!("parked {}", self.name(branch)),
            Transition::Resolved(branch, decision) => {
                format!("resolved {} as {}", self.name(branch), decision.outcome())
            }
            Transition::Ended => "ended".to_owned(),
        }
    }

    fn reason(&self, reason: Reason) -> String {
        match reason {
            Reason::Unreachable(branch, Some(status)) => {
                format!("{} failed with {status}", self.name(branch))
            }
            Reason::Refused(..) | Reason::Unreachable(..) | Reason::Late(_) | Reason::Restarted => {
                let who = reason.branch().map(|branch| format!("{} ", self.name(branch)));
                format!("{}{}", who.unwrap_or_default(), reason.kind())
            }
        }
    }

    fn name(&self, branch: Branch) -> &str {
        self.names.get(branch.index()).map_or("nobody", String::as_str)
    }

    fn names_of(&self, branches: Branches) -> Vec<&str> {
        branches.iter().map(|branch| self.name(branch)).collect()
    }
}

fn branch_in(names: &[String], name: &str) -> Option<Branch> {
    let number = names.iter().position(|known| known == name)?;
    Branch::new(number).ok()
}

/// A time of the story: so long after it began.
fn time(after: &str) -> Option<Timestamp> {
    humantime::parse_duration(after).ok().map(|span| Timestamp(0).plus(span))
}
