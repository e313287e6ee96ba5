//! The HTTP clients for all calls to services, one for each protocol that a service may speak.
//!
//! They follow no redirect, use no proxy of the environment, add nothing of their own and repeat nothing that may have been
//! sent: each of these is for those who call to decide. The calls of transactions are reqwest's to make. What is forwarded goes
//! out by hyper's own client, on which reqwest stands: a body passes as it comes, and a URL that is known is not read anew for
//! each request.

pub(crate) mod addresses;

use std::time::Duration;

use axum::body::Body;
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, dns};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::TcpStream;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;

/// Whoever is gone without a word is noticed: after this time of silence he is asked whether he is there, and so often again.
const TCP_ALIVE_EVERY: Duration = Duration::from_secs(15);
const TCP_ALIVE_TRIES: u32 = 3;

/// Header fields of an answer of HTTP/1.1. Without a word hyper takes 100, and a page that sets many cookies has more.
const ANSWER_FIELDS_MAX: usize = 256;

/// In HTTP/2 one connection carries all calls to an instance. One that is gone without a word would hold them all up.
const HTTP2_ALIVE_EVERY: Duration = Duration::from_secs(10);
const HTTP2_ALIVE_WITHIN: Duration = Duration::from_secs(5);

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
    http1: reqwest::Client,
    http2: reqwest::Client,
}

/// A client that passes on what comes. Its URLs are whole, and their scheme is `http`.
pub type Forwarder = Client<Connector, Body>;

/// Makes a connection in time, or none.
pub type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, tower::BoxError>;

/// A client for each protocol, for what is forwarded. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Forwarders {
    http1: Forwarder,
    http2: Forwarder,
}

impl Clients {
    /// Clients that connect within `connect_timeout`, and keep an idle connection for `pool_idle`.
    pub fn new(connect_timeout: Duration, pool_idle: Duration) -> reqwest::Result<Self> {
        let builder = || {
            reqwest::Client::builder()
                .no_proxy()
                .dns_resolver(Names)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(connect_timeout)
                .pool_idle_timeout(pool_idle)
                .tcp_nodelay(true)
        };
        let http2 = builder()
            .http2_prior_knowledge()
            .http2_keep_alive_interval(HTTP2_ALIVE_EVERY)
            .http2_keep_alive_timeout(HTTP2_ALIVE_WITHIN);
        Ok(Self { http1: builder().http1_only().build()?, http2: http2.build()? })
    }

    /// The client for a service that speaks this.
    #[must_use]
    pub fn of(&self, speaks: Speaks) -> &reqwest::Client {
        match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
        }
    }
}

impl Forwarders {
    /// Clients that connect within `connect_timeout`, and keep an idle connection for `pool_idle`.
    #[must_use]
    pub fn new(connect_timeout: Duration, pool_idle: Duration) -> Self {
        let names = tower::service_fn(async |name: dns::Name| {
            addresses::of_name(name.as_str()).await.map(Vec::into_iter)
        });
        let mut connector = HttpConnector::new_with_resolver(names);
        connector.set_nodelay(true);
        connector.set_keepalive(Some(TCP_ALIVE_EVERY));
        connector.set_keepalive_interval(Some(TCP_ALIVE_EVERY));
        connector.set_keepalive_retries(Some(TCP_ALIVE_TRIES));
        // Of the connector's own, which would not count the time that a name takes.
        let connector = Connector::new(Timeout::new(connector, connect_timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(pool_idle);
        builder.http1_max_headers(ANSWER_FIELDS_MAX);
        let http1 = builder.build(connector.clone());
        builder
            .http2_only(true)
            .http2_keep_alive_interval(HTTP2_ALIVE_EVERY)
            .http2_keep_alive_timeout(HTTP2_ALIVE_WITHIN);
        Self { http1, http2: builder.build(connector) }
    }

    /// The client for a service that speaks this.
    #[must_use]
    pub fn of(&self, speaks: Speaks) -> &Forwarder {
        match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
        }
    }
}

/// Looks up names for reqwest, and leaves out where no instance can be.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = addresses::of_name(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
