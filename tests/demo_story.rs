//! `unanimous demo` as a user runs it: what it prints, what it keeps, and that it leaves nothing running.

use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unanimous"))
        .arg("demo")
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_tells_what_was_in_doubt_and_proves_that_no_money_was_made_or_lost() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("demo");
    let kept = data_dir.to_str().unwrap();
    let output = demo(&["--transfers", "300", "--kills", "4", "--seed", "7", "--data-dir", kept]);
    let (told, progress) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}\n{progress}");
    for words in [
        "seed 7",
        "What was in doubt when the gateway was killed",
        "No money was made or lost",
        " dump --data-dir ",
        " verify --data-dir ",
    ] {
        assert!(told.contains(words), "{words:?} is not in:\n{told}");
    }
    assert!(progress.contains("300 of 300 transfers settled"), "{progress}");
    assert!(!told.contains('\u{1b}') && !progress.contains('\u{1b}'), "no colour where there is no terminal");

    let mut verify = Command::new(env!("CARGO_BIN_EXE_unanimous"));
    let verified = verify.arg("verify").arg("--data-dir").arg(data_dir.join("gateway")).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}

#[test]
fn the_demo_does_not_write_into_a_directory_that_holds_something() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine"), "keep").unwrap();
    let output = demo(&["--data-dir", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty"), "{}", text(&output.stderr));
}

#[test]
fn nothing_is_left_running_where_the_demo_itself_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_unanimous"))
        .args(["demo", "--data-dir", directory.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let config = directory.path().join("unanimous.toml");
    until("the gateway and three banks listen", || {
        let ports = ports(&std::fs::read_to_string(&config).unwrap_or_default());
        ports.len() == 5 && ports.into_iter().all(listens)
    });
    demo.kill().unwrap();
    demo.wait().unwrap();
    let ports = ports(&std::fs::read_to_string(&config).unwrap());
    until("nobody listens any more", || !ports.iter().any(|port| listens(*port)));
}

/// The ports in a configuration.
fn ports(config: &str) -> Vec<u16> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    config.split("127.0.0.1:").skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let pause = || std::thread::sleep(Duration::from_millis(20));
    let reached = (0..1_000).any(|_| {
        done() || {
            pause();
            false
        }
    });
    assert!(reached, "waited in vain: {what}");
}
