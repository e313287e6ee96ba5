//! Watches every system call of a child and of all its threads, through `ptrace`.
//!
//! The child is a test of the same program, started again by itself. It waits for a line on its standard input
//! until all of its threads are seized, so that no call is missed.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what goes wrong in a helper ends the test that called it"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Sees every call when it begins and when it returns.
pub(crate) trait Watcher {
    /// What is kept of a call until it returns.
    type Call;

    fn begins(&mut self, call: &Entry) -> Self::Call;
    fn returns(&mut self, call: Self::Call, exit: &Exit);
}

/// A call in which a thread is.
pub(crate) struct Entry {
    process: Pid,
    pub(crate) number: i64,
    arguments: Vec<u64>,
}

/// A thread that is just coming back from a call.
pub(crate) struct Exit {
    process: Pid,
    thread: Pid,
}

/// Runs a test of this program, which calls [`wait_until_watched`], and watches it to its end.
#[expect(clippy::zombie_processes, reason = "`follow` waits for it, with all of its threads")]
pub(crate) fn watch(
    child: &str,
    environment: &[(&str, &str)],
    watcher: &mut impl Watcher,
) -> Result<(), Signal> {
    // A process can wait for any of its children, and so for those of another test: one at a time.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut go = child.stdin.take().unwrap();
    seize_all_threads(process);
    go.write_all(b"go\n").unwrap();
    follow(process, watcher)
}

/// For the child: returns when all of its threads are watched.
pub(crate) fn wait_until_watched() {
    std::io::stdin().read_exact(&mut [0; 3]).unwrap();
}

/// For the child: says something in a system call of its own, which the watcher sees.
pub(crate) fn say(words: &str) {
    // Past the buffer of stdout.
    File::options().write(true).open("/dev/stdout").unwrap().write_all(words.as_bytes()).unwrap();
}

/// Those that are there already; those that they start are seized with them.
fn seize_all_threads(process: Pid) {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    // Before it waits for its line it may still start threads.
    while !threads(process).iter().any(|thread| waits_for_its_line(process, *thread)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    for thread in threads(process) {
        ptrace::seize(thread, options).unwrap();
        ptrace::interrupt(thread).unwrap();
    }
}

fn threads(process: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let number = |task: std::io::Result<fs::DirEntry>| task.unwrap().file_name().to_string_lossy().parse();
    tasks.map(|task| Pid::from_raw(number(task).unwrap())).collect()
}

fn waits_for_its_line(process: Pid, thread: Pid) -> bool {
    Entry::of(process, thread).is_some_and(|call| call.number == libc::SYS_read && call.argument(0) == 0)
}

fn follow<W: Watcher>(process: Pid, watcher: &mut W) -> Result<(), Signal> {
    let mut inside: HashMap<Pid, Option<W::Call>> = HashMap::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(thread) => {
                match inside.remove(&thread) {
                    None => {
                        let call = Entry::of(process, thread).map(|call| watcher.begins(&call));
                        inside.insert(thread, call);
                    }
                    Some(Some(call)) => watcher.returns(call, &Exit { process, thread }),
                    Some(None) => {}
                }
                resume(thread, None);
            }
            WaitStatus::Stopped(thread, signal) => {
                let is_meant = signal != Signal::SIGTRAP && signal != Signal::SIGSTOP;
                resume(thread, Some(signal).filter(|_| is_meant));
            }
            WaitStatus::PtraceEvent(thread, _, _) => resume(thread, None),
            WaitStatus::Exited(thread, code) if thread == process => {
                assert_eq!(code, 0, "the child failed");
                return Ok(());
            }
            WaitStatus::Signaled(thread, signal, _) if thread == process => return Err(signal),
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

impl Entry {
    /// The kernel prints the call in which a thread is: number, six arguments, stack, instruction.
    fn of(process: Pid, thread: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")).ok()?;
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let arguments = words.map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap());
        Some(Self { process, number, arguments: arguments.collect() })
    }

    pub(crate) fn argument(&self, n: usize) -> u64 {
        self.arguments[n]
    }

    /// Where the kernel shows a descriptor of the child, given as this argument.
    pub(crate) fn descriptor(&self, n: usize) -> PathBuf {
        descriptor(self.process, self.argument(n).cast_signed())
    }

    /// The position of a descriptor of the child, given as this argument.
    pub(crate) fn position(&self, n: usize) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.process, self.argument(n))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("pos:")).unwrap().trim().parse().unwrap()
    }

    /// The bytes at one argument, as many as another says.
    pub(crate) fn bytes(&self, address: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.argument(length)).unwrap()];
        self.memory().read_exact_at(&mut bytes, self.argument(address)).unwrap();
        bytes
    }

    /// The path at one argument, which may be relative to the directory that another names.
    pub(crate) fn path(&self, directory: Option<usize>, n: usize) -> PathBuf {
        let mut bytes = vec![0; 4096];
        let read = self.memory().read_at(&mut bytes, self.argument(n)).unwrap();
        bytes.truncate(read);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap();
        let path = PathBuf::from(String::from_utf8(bytes[..end].to_vec()).unwrap());
        let base = match directory {
            Some(n) if self.argument(n) & 0xffff_ffff != u64::from(libc::AT_FDCWD.cast_unsigned()) => {
                self.descriptor(n)
            }
            Some(_) | None => PathBuf::from(format!("/proc/{}/cwd", self.process)),
        };
        if path.is_absolute() { path } else { fs::read_link(base).unwrap().join(path) }
    }

    fn memory(&self) -> File {
        File::open(format!("/proc/{}/mem", self.process)).unwrap()
    }
}

impl Exit {
    pub(crate) fn result(&self) -> i64 {
        let registers = ptrace::getregs(self.thread).unwrap();
        #[cfg(target_arch = "x86_64")]
        let result = registers.rax;
        #[cfg(target_arch = "aarch64")]
        let result = registers.regs[0];
        result.cast_signed()
    }

    /// Where the kernel shows the descriptor that the call gave.
    pub(crate) fn descriptor(&self) -> PathBuf {
        descriptor(self.process, self.result())
    }

    /// Lets the call say that the disk failed.
    pub(crate) fn fail(&self) {
        let mut registers = ptrace::getregs(self.thread).unwrap();
        let error = i64::from(-libc::EIO).cast_unsigned();
        #[cfg(target_arch = "x86_64")]
        {
            registers.rax = error;
        }
        #[cfg(target_arch = "aarch64")]
        {
            registers.regs[0] = error;
        }
        ptrace::setregs(self.thread, registers).unwrap();
    }
}

fn descriptor(process: Pid, number: i64) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/fd/{number}"))
}
