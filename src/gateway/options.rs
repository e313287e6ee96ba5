//! What the configuration says of the calls to backends.

use std::time::Duration;

/// Limits on calls to backends, and on clients who send what goes there; they stand in the `[node]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayOptions {
    /// How long a client may take to send a body that has to be held whole. One that is streamed has this time and, for each
    /// `body_rate_min` bytes, a second more. Default: 30 s.
    pub body_timeout: Duration,
    /// The bytes a second that a client has to send on average of a body that is streamed, once `body_timeout` is used up;
    /// 0: it may take as long as it likes. Default: 500, as in Apache.
    pub body_rate_min: usize,
    /// The longest one attempt to connect may take. Default: 2 s.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept. Below the 5 s after which common servers close theirs, so
    /// that a call seldom goes out on a connection that is just being closed. Default: 4 s.
    pub pool_idle: Duration,
    /// How long both sides of an upgraded connection (a WebSocket) may say nothing before it is closed. Default: 10 min.
    pub tunnel_idle: Duration,
    /// The most bytes of one answer that has to be held whole (a part of a merge). Default: 1 MiB.
    pub answer_max: usize,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            body_timeout: Duration::from_secs(30),
            body_rate_min: 500,
            connect_timeout: Duration::from_secs(2),
            pool_idle: Duration::from_secs(4),
            tunnel_idle: Duration::from_mins(10),
            answer_max: 1024 * 1024,
        }
    }
}
