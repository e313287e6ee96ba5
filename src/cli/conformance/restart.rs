//! Killing the participant and starting it again: by a command, or by whoever sits at the keyboard.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::Stdio;
use std::time::Duration;

use http::StatusCode;
use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::sender::client;
use crate::clients::Speaks;
use crate::discovery::Endpoint;

/// Between two looks whether it answers.
const MOMENT: Duration = Duration::from_millis(100);

/// How much is repeated of what a command said that failed.
const SAID_MAX: u64 = 1_000;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What it answers, or what stands before it, while it is coming up.
const COMING_UP: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// How the participant is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Restarter {
    /// It is not.
    Nobody,
    /// This command of the shell does it.
    Command(String),
    /// Somebody is asked to.
    Person,
}

impl Restarter {
    /// Restarts the participant and waits until it answers; a sentence where that did not work.
    pub(super) async fn restart(
        &self,
        endpoints: &[Endpoint],
        speaks: Speaks,
        within: Duration,
    ) -> Result<(), String> {
        let mut held = Vec::new();
        for endpoint in endpoints {
            held.extend(connection(endpoint).await.map(|connection| (endpoint, connection)));
        }
        match self {
            Self::Nobody => {
                return Err("it is not restarted; give --restart-command or --ask-restart".to_owned());
            }
            Self::Command(command) => run(command, within).await?,
            Self::Person => ask().await?,
        }
        for endpoint in endpoints {
            answering(endpoint, speaks, within).await?;
        }
        for (endpoint, connection) in held {
            doubt_if_open(endpoint, connection).await;
        }
        Ok(())
    }
}

/// A connection that nothing is asked on: a process that is killed takes it with it. `None` where there is none.
async fn connection(endpoint: &Endpoint) -> Option<TcpStream> {
    let url = Url::parse(endpoint.as_str()).ok()?;
    let address = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    timeout(ANSWER, TcpStream::connect(address)).await.ok()?.ok()
}

/// Says so where the participant seems to live on.
#[expect(clippy::print_stderr, reason = "whoever wrote the command has to know, and no rule is about it")]
async fn doubt_if_open(endpoint: &Endpoint, mut connection: TcpStream) {
    if timeout(MOMENT, connection.read(&mut [0])).await.is_err() {
        eprintln!(
            "note: a connection to {endpoint} from before the restart is still open. Was the process killed? If not, the rules about a restart \
             prove nothing. (A proxy in between keeps it open as well.)"
        );
    }
}

/// Runs the command to its end. What it leaves running goes on, and must not hold our own output open.
async fn run(command: &str, within: Duration) -> Result<(), String> {
    let failed = |reason: &dyn std::fmt::Display| format!("`{command}` failed: {reason}");
    let child = |said: &File| -> io::Result<Child> {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true);
        shell.stdout(said.try_clone()?).stderr(said.try_clone()?).spawn()
    };
    let mut said = tempfile::tempfile().map_err(|error| failed(&error))?;
    let mut child = child(&said).map_err(|error| failed(&error))?;
    let reason = match timeout(within, child.wait()).await {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            format!("it did not end within {within:?}; it has to leave the participant in the background")
        }
    };
    let mut text = Vec::new();
    // What it said only helps; where that cannot be read, the reason is enough.
    let read = said.rewind().and_then(|()| said.take(SAID_MAX).read_to_end(&mut text));
    let text = String::from_utf8_lossy(if read.is_ok() { &text } else { &[] }).trim().to_owned();
    Err(failed(&if text.is_empty() { reason } else { format!("{reason}: {text}") }))
}

#[expect(clippy::print_stderr, reason = "a person is asked")]
async fn ask() -> Result<(), String> {
    eprintln!("Now kill the participant (kill -9), start it again, and press Enter.");
    let reading = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    match reading.await {
        Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0) | Err(_)) | Err(_) => Err("nobody said that it was restarted".to_owned()),
    }
}

/// Waits until it answers a request that asks for nothing, and still does a moment later: a process that was just killed
/// may answer once more. Any answer will do but one that says that it is still coming up; whoever says that for all the time
/// has answered.
async fn answering(endpoint: &Endpoint, speaks: Speaks, within: Duration) -> Result<(), String> {
    let (url, began, mut answers) = (format!("{endpoint}/"), Instant::now(), 0);
    while answers < 2 {
        sleep(MOMENT).await;
        // A client of its own: no connection to the process that was killed is used again.
        let client = client(speaks).map_err(|error| error.to_string())?;
        let answer = timeout(ANSWER, client.get(&url).send()).await;
        let status = answer.ok().and_then(Result::ok).map(|answer| answer.status());
        answers = if status.is_some_and(|status| !COMING_UP.contains(&status)) { answers + 1 } else { 0 };
        match status {
            Some(_) if began.elapsed() >= within => return Ok(()),
            None if began.elapsed() >= within => {
                return Err(format!(
                    "{endpoint} did not answer within {within:?} of the restart (--restart-within)"
                ));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}
