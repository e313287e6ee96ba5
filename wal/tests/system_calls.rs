//! No answer before a real sync, as the kernel sees it.
//!
//! A child appends and writes a line for each acknowledgement, while this process watches every system call of all
//! of its threads. For each line there must have been, in this order: the return of the write that carried the
//! record to sled's data file; an `fdatasync` of that file, begun after that through another descriptor than
//! sled's, which returned 0; and only then the line. In a second run one of these syncs is made to fail on its way
//! back from the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use common::{payload, start};
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const RECORDS: u64 = 25;
/// Which sync fails where one does: the log is well under way, and would go on for a while.
const FAILING: u64 = 10;
const DIRECTORY: &str = "UNANIMOUS_WAL_SYSTEM_CALL_TEST_DIRECTORY";

/// What a thread asked of the kernel.
#[derive(Debug, Clone)]
enum Call {
    /// A write of records to sled's data file, through this descriptor.
    Write(u64, Vec<u64>),
    Sync(u64),
    Line(u64),
    Other,
}

/// What is known at some moment.
#[derive(Default)]
struct Observer {
    /// The descriptor that sled writes through.
    theirs: Option<u64>,
    /// Counts the returns of writes that carried records.
    writes: u64,
    /// With which of them each record reached the file.
    written: HashMap<u64, u64>,
    /// Up to which of them a sync covers what was written.
    synced: u64,
    syncs: u64,
    /// The sync that fails.
    failing: Option<u64>,
    lines: Vec<u64>,
    /// What each thread is in, and the writes there were when it began.
    inside: HashMap<Pid, (Call, u64)>,
}

#[test]
fn every_acknowledgement_follows_a_real_sync_of_its_record() {
    let observer = run(None);
    assert_eq!(observer.lines, (1..=RECORDS).collect::<Vec<_>>());
    assert!(observer.syncs >= RECORDS, "only {} syncs for {RECORDS} records", observer.syncs);
}

#[test]
fn after_a_sync_that_failed_nothing_is_acknowledged_any_more() {
    let observer = run(Some(FAILING));
    let acknowledged = u64::try_from(observer.lines.len()).unwrap();
    assert_eq!(observer.lines, (1..=acknowledged).collect::<Vec<_>>());
    assert!((1..FAILING).contains(&acknowledged), "{acknowledged} lines, and sync {FAILING} failed");
}

/// Watches a child from its first record to its end; of its syncs the one of this number fails.
#[expect(clippy::zombie_processes, reason = "`observe` waits for it, with all of its threads")]
fn run(failing: Option<u64>) -> Observer {
    // A process can wait for any of its children, and so for those of another test: one at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_and_says_so", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut go = child.stdin.take().unwrap();
    seize_all_threads(process);
    go.write_all(b"go\n").unwrap();
    observe(process, Observer { failing, ..Observer::default() })
}

/// The child, which is watched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_and_says_so() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    std::io::stdin().read_exact(&mut [0; 3]).unwrap();
    let (wal, _) = start(directory.as_ref());
    for n in 1..=RECORDS {
        // Another try must fail the same: no sync is believed after one that failed.
        if wal.append(payload(n, 150), ()).await.is_err() {
            continue;
        }
        // Past the buffer of stdout, so that each line is a system call of its own.
        fs::File::options()
            .write(true)
            .open("/dev/stdout")
            .unwrap()
            .write_all(format!("line {n:08}").as_bytes())
            .unwrap();
    }
}

/// Those that are there already; those that they start are seized with them.
fn seize_all_threads(process: Pid) {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    // The child waits for its line by then; before that it may still start threads.
    std::thread::sleep(std::time::Duration::from_millis(300));
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let thread = Pid::from_raw(task.unwrap().file_name().to_string_lossy().parse().unwrap());
        ptrace::seize(thread, options).unwrap();
        ptrace::interrupt(thread).unwrap();
    }
}

fn observe(process: Pid, mut observer: Observer) -> Observer {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(thread) => {
                observer.at_system_call(process, thread);
                resume(thread, None);
            }
            WaitStatus::Stopped(thread, signal) => {
                resume(
                    thread,
                    Some(signal).filter(|signal| *signal != Signal::SIGTRAP && *signal != Signal::SIGSTOP),
                );
            }
            WaitStatus::PtraceEvent(thread, _, _) => resume(thread, None),
            WaitStatus::Exited(thread, code) if thread == process => {
                assert_eq!(code, 0, "the child failed");
                return observer;
            }
            WaitStatus::Signaled(thread, signal, _) if thread == process => {
                panic!("the child died of {signal}")
            }
            WaitStatus::Exited(..)
            | WaitStatus::Signaled(..)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => {}
        }
    }
}

/// A thread that is gone meanwhile needs no leave to go on.
fn resume(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => panic!("{error}"),
    }
}

impl Observer {
    fn at_system_call(&mut self, process: Pid, thread: Pid) {
        match self.inside.remove(&thread) {
            None => {
                let call = call_of(process, thread);
                if let Call::Line(n) = call {
                    let write = self.written.get(&n).copied();
                    assert!(
                        write.is_some_and(|write| write <= self.synced),
                        "record {n} was acknowledged too early"
                    );
                    self.lines.push(n);
                }
                self.inside.insert(thread, (call, self.writes));
            }
            Some((call, writes_before)) => self.returned(thread, &call, writes_before),
        }
    }

    fn returned(&mut self, thread: Pid, call: &Call, writes_before: u64) {
        match call {
            Call::Write(descriptor, records) => {
                self.theirs = Some(*descriptor);
                self.writes += 1;
                for record in records {
                    self.written.entry(*record).or_insert(self.writes);
                }
            }
            // An error that one of sled's threads had already taken would not show through sled's own.
            Call::Sync(descriptor) if self.theirs.is_some_and(|theirs| theirs != *descriptor) => {
                self.syncs += 1;
                if self.failing == Some(self.syncs) {
                    fail(thread);
                } else if result_of(thread) == 0 {
                    self.synced = self.synced.max(writes_before);
                }
            }
            Call::Sync(_) | Call::Line(_) | Call::Other => {}
        }
    }
}

/// The kernel prints the call in which a thread is: number, six arguments, stack, instruction.
fn call_of(process: Pid, thread: Pid) -> Call {
    let Ok(text) = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")) else {
        return Call::Other;
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(number) = words.first().and_then(|word| word.parse::<i64>().ok()) else { return Call::Other };
    let argument = |n: usize| u64::from_str_radix(words[n].trim_start_matches("0x"), 16).unwrap();
    let file = || fs::read_link(format!("/proc/{process}/fd/{}", argument(1))).unwrap_or_default();
    match number {
        libc::SYS_fdatasync if file().ends_with("store/db") => Call::Sync(argument(1)),
        libc::SYS_pwrite64 if file().ends_with("store/db") => {
            let records = numbers(&memory(process, argument(2), argument(3)), b"payload-");
            Call::Write(argument(1), records)
        }
        libc::SYS_write => {
            let lines = numbers(&memory(process, argument(2), argument(3)), b"line ");
            lines.first().map_or(Call::Other, |n| Call::Line(*n))
        }
        _ => Call::Other,
    }
}

fn result_of(thread: Pid) -> i64 {
    let registers = ptrace::getregs(thread).unwrap();
    #[cfg(target_arch = "x86_64")]
    let result = registers.rax;
    #[cfg(target_arch = "aarch64")]
    let result = registers.regs[0];
    result.cast_signed()
}

/// Lets the call from which a thread is just coming back say that the disk failed.
fn fail(thread: Pid) {
    let mut registers = ptrace::getregs(thread).unwrap();
    let error = i64::from(-libc::EIO).cast_unsigned();
    #[cfg(target_arch = "x86_64")]
    {
        registers.rax = error;
    }
    #[cfg(target_arch = "aarch64")]
    {
        registers.regs[0] = error;
    }
    ptrace::setregs(thread, registers).unwrap();
}

fn memory(process: Pid, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    let memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    memory.read_exact_at(&mut bytes, address).unwrap();
    bytes
}

/// The numbers of eight digits that follow `word`, wherever it stands.
fn numbers(bytes: &[u8], word: &[u8]) -> Vec<u64> {
    let found = bytes.windows(word.len() + 8).filter(|window| window.starts_with(word));
    found.filter_map(|window| std::str::from_utf8(&window[word.len()..]).ok()?.parse().ok()).collect()
}
