//! The HTTP clients for all calls to services, one for each protocol that a service may speak.
//!
//! They follow no redirect, use no proxy of the environment, add nothing of their own and repeat nothing: each of these is for
//! those who call to decide.

use std::time::Duration;

use reqwest::{Client, ClientBuilder};

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speaks {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113, 3.3).
    Http2,
}

/// A client for each protocol. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Clients {
    http1: Client,
    http2: Client,
}

impl Clients {
    /// Clients that connect within `connect_timeout`, and keep an idle connection for `pool_idle`.
    pub fn new(connect_timeout: Duration, pool_idle: Duration) -> reqwest::Result<Self> {
        let client = |speaks: fn(ClientBuilder) -> ClientBuilder| {
            let builder = Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(connect_timeout)
                .pool_idle_timeout(pool_idle)
                .tcp_nodelay(true);
            speaks(builder).build()
        };
        let http2 = |builder: ClientBuilder| {
            // One connection carries all calls to an instance. One that is gone without a word would hold them all up.
            builder
                .http2_prior_knowledge()
                .http2_keep_alive_interval(Duration::from_secs(10))
                .http2_keep_alive_timeout(Duration::from_secs(5))
        };
        Ok(Self { http1: client(ClientBuilder::http1_only)?, http2: client(http2)? })
    }

    /// The client for a service that speaks this.
    #[must_use]
    pub fn of(&self, speaks: Speaks) -> &Client {
        match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
        }
    }
}
