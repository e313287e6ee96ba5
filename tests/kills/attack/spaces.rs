//! A network namespace for the gateway, and pairs of interfaces that lead out of it: one to its clients, one to each bank.
//!
//! All of it is made inside a namespace of our own and has no name anywhere. The kernel takes it back with the last process in
//! it, so that nothing is left however we end, and nothing outside can see it. Needs Linux, `ip`, `unshare` and
//! `nsenter`, and root, or a system that lets others make user namespaces.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use unanimous::cli::demo::harness::Place;

/// Names the namespace we came from, where we run in one of our own already.
const INSIDE: &str = "UNANIMOUS_KILLS_INSIDE";

/// Our network namespace.
const OURS: &str = "/proc/self/ns/net";

/// The pair that clients and operators use. The banks have those before it.
const CLIENTS: usize = super::BANKS;

/// The namespace of the gateway.
#[derive(Debug)]
pub struct Spaces {
    /// Waits for its stdin to end, and keeps the namespace until then.
    holder: Child,
}

/// Starts this program again in a namespace of its own, if that can be had and it does not run in one already. It comes
/// back only where it cannot be had, with the reason, or where it is not needed any more.
pub fn move_into_one() -> Result<(), String> {
    let here = fs::read_link(OURS).map_err(|error| format!("{OURS} cannot be read: {error}"))?;
    if std::env::var_os(INSIDE).is_some_and(|from| from != here) {
        return Ok(());
    }
    let works = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    for tool in ["ip", "nsenter"] {
        if !works(Command::new(tool).arg("-V")) {
            return Err(format!("there is no `{tool}`"));
        }
    }
    let ways: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
    let makes_pairs = ["ip", "link", "add", "one", "type", "veth", "peer", "name", "other"];
    let way = ways.into_iter().find(|way| works(Command::new("unshare").args(*way).args(makes_pairs)));
    let way = way.ok_or("network namespaces with interfaces cannot be made here; root can")?;
    Err(start_again(way, &here).to_string())
}

/// Becomes the new program; comes back with an error only.
#[cfg(unix)]
fn start_again(way: &[&str], from: &Path) -> io::Error {
    use std::os::unix::process::CommandExt as _;

    let again = std::env::current_exe().map(|program| {
        Command::new("unshare")
            .args(way)
            .arg("--")
            .arg(program)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, from)
            .exec()
    });
    again.unwrap_or_else(|error| error)
}

#[cfg(not(unix))]
fn start_again(_way: &[&str], _from: &Path) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Our end of a pair.
pub fn near(pair: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, number(pair), 2)
}

/// The gateway's end of a pair.
fn far(pair: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, number(pair), 1)
}

fn number(pair: usize) -> u8 {
    u8::try_from(pair).expect("there are few pairs")
}

/// Takes our end of a bank's pair down or up. While it is down, what the gateway sends to this bank gets no answer, not even
/// that nobody is there.
pub fn set(bank: usize, up: bool) -> io::Result<()> {
    run(&["ip", "link", "set", &format!("near{bank}"), if up { "up" } else { "down" }])
}

impl Spaces {
    /// Makes the namespace of the gateway and all pairs. Only after [`move_into_one`] has said that we are inside.
    pub fn make() -> io::Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let spaces = Self { holder };
        spaces.wait_until_it_is_another()?;
        run(&["ip", "link", "set", "lo", "up"])?;
        spaces.within(&["ip", "link", "set", "lo", "up"])?;
        (0..=CLIENTS).try_for_each(|pair| spaces.lay(pair))?;
        Ok(spaces)
    }

    /// The gateway starts in it, and listens at its end of the pair of the clients.
    pub fn gateway(&self) -> Place {
        let before = self.enter().map(OsString::from).collect();
        Place { before, host: far(CLIENTS).into() }
    }

    fn lay(&self, pair: usize) -> io::Result<()> {
        let (ours, theirs) = (format!("near{pair}"), format!("far{pair}"));
        let holder = self.holder.id().to_string();
        run(&["ip", "link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &holder])?;
        run(&["ip", "addr", "add", &format!("{}/24", near(pair)), "dev", &ours])?;
        self.within(&["ip", "addr", "add", &format!("{}/24", far(pair)), "dev", &theirs])?;
        self.within(&["ip", "link", "set", &theirs, "up"])?;
        run(&["ip", "link", "set", &ours, "up"])
    }

    fn within(&self, command: &[&str]) -> io::Result<()> {
        let words: Vec<String> = self.enter().chain(command.iter().map(ToString::to_string)).collect();
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn enter(&self) -> impl Iterator<Item = String> {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id()), "--".to_owned()]
            .into_iter()
    }

    /// The holder needs a moment to get its namespace.
    fn wait_until_it_is_another(&self) -> io::Result<()> {
        let ours = fs::read_link(OURS)?;
        let theirs = format!("/proc/{}/ns/net", self.holder.id());
        for _ in 0..1_000 {
            if fs::read_link(&theirs).is_ok_and(|theirs| theirs != ours) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("the namespace of the gateway did not come into being"))
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        // It goes with our end of its stdin in any case; then at the latest.
        drop(self.holder.kill().and_then(|()| self.holder.wait()));
    }
}

fn run(command: &[&str]) -> io::Result<()> {
    let mut words = command.iter();
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    let said = || format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said())) }
}
