//! Ports for processes that are started again on the port they had.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex};

/// Below the range from which the kernel takes the near end of outgoing connections (32768 and up on
/// Linux, 49152 on macOS). From that range a port could be gone while its process is down; and a client that tries
/// a closed port of that range can be connected *to itself*.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of 127.0.0.1 that nobody listens on, never given twice by this process.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = fastrand::u16(RANGE);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
}
