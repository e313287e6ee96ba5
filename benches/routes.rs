//! What a thousand routes cost a request, against ten: the lookup alone, and whole requests through sockets.
//!
//! `cargo bench --bench routes [-- --quick]` (half a minute). Both sides take turns in one run, so that what else the
//! machine does falls on both.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(clippy::disallowed_methods, reason = "a benchmark looks at the clock")]

#[path = "../tests/gateway_support/mod.rs"]
mod gateway_support;
mod kit;

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use gateway_support::{beside, config, gateway, listener, read_until, send};
use http::request::Parts;
use kit::participant::{Control, serve};
use kit::{Failure, goal, median};
use tokio::net::TcpStream;
use unanimous::gateway::RouteTable;

const FEW: u32 = 10;
const MANY: u32 = 1_000;

/// So much more may a request cost.
const SHARE_MAX: f64 = 1.05;

/// How the answers of the backend end.
const END: &str = "{}";

fn main() -> Result<(), Failure> {
    kit::run(bench())
}

/// A gateway with so many routes, and what its requests took, in microseconds, by round.
struct Side {
    count: u32,
    table: RouteTable,
    client: TcpStream,
    took: Vec<f64>,
}

async fn bench() -> Result<(), Failure> {
    let (rounds, requests) = if kit::is_quick() { (40, 50) } else { (200, 100) };
    let (participant, backend) = listener().await;
    beside(async move { drop(serve(participant, Arc::new(Control::default())).await) });
    let (mut few, mut many) = (Side::start(FEW, backend).await, Side::start(MANY, backend).await);
    // The first round warms everything up.
    for round in 0..=rounds {
        few.ask(round, requests).await;
        many.ask(round, requests).await;
    }
    let pairs = few.took.iter().zip(&many.took).skip(1);
    let share = median(pairs.map(|(few, many)| many / few).collect());
    println!("{:>8} {:>12} {:>14}", "routes", "lookup ns", "request us");
    for side in [few, many] {
        println!("{:>8} {:>12.0} {:>14.1}", side.count, lookup(&side), median(side.took));
    }
    goal("a request with 1,000 routes / with 10", &format!("{share:.3}"), "< 1.05", share < SHARE_MAX);
    Ok(())
}

impl Side {
    async fn start(count: u32, backend: SocketAddr) -> Self {
        let text = config(&[backend], &routes(count));
        let parsed = unanimous::config::parse("bench", &text, std::iter::empty());
        let table = parsed.expect("a good configuration").routes;
        let client = TcpStream::connect(gateway(&text).await).await.expect("connects");
        client.set_nodelay(true).expect("can be set");
        Self { count, table, client, took: Vec::new() }
    }

    /// Requests one after the other, each for the path of another route.
    async fn ask(&mut self, round: u32, requests: u32) {
        let begun = Instant::now();
        for nth in 0..requests {
            let path = path((round * 7 + nth) % self.count);
            send(&mut self.client, &format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")).await;
            read_until(&mut self.client, END).await;
        }
        self.took.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(requests));
    }
}

/// So many routes, each with a path of its own; every tenth asks for a host as well, every seventh for a header.
fn routes(count: u32) -> String {
    let mut text = String::new();
    for nth in 0..count {
        let host = if nth % 10 == 0 { ", host = \"*.example.com\"" } else { "" };
        let header = if nth % 7 == 6 { ", headers = { host = \"api.example.com\" }" } else { "" };
        writeln!(
            text,
            "[[routes]]\nid = \"{nth}\"\nmatch = {{ path = \"/team-{nth}/things/{{id}}\", methods = [\"GET\"]{host}{header} }}\n\
             forward = {{ service = \"s\", path = \"/things/{{id}}\" }}"
        )
        .expect("a string takes all");
    }
    text
}

fn path(nth: u32) -> String {
    format!("/team-{nth}/things/42")
}

/// Nanoseconds for one lookup, the median of many.
fn lookup(side: &Side) -> f64 {
    let requests: Vec<Parts> = (0..side.count).map(|nth| head(&path(nth))).collect();
    let mut took = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        for (_, request) in (0..MANY).zip(requests.iter().cycle()) {
            black_box(side.table.route(black_box(request)));
        }
        took.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(MANY));
    }
    median(took)
}

fn head(path: &str) -> Parts {
    let request = http::Request::builder().uri(path).header("host", "api.example.com").body(());
    request.expect("a request").into_parts().0
}
