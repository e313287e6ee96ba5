//! A participant inside the test: answers what it is told to, and remembers every call.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::Answer;
use super::wire::{self, Call};

type Observer = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A scripted participant. What it was not told to answer it answers with [`Answer::ok`].
///
/// It keeps its port for life, so that it can be stopped (connections are refused) and started again.
/// Dropping it stops it.
#[derive(Debug)]
pub struct Stub {
    port: u16,
    script: Arc<Mutex<Script>>,
    running: Option<JoinSet<()>>,
}

#[derive(Default)]
struct Script {
    next: HashMap<String, VecDeque<Answer>>,
    always: HashMap<String, Answer>,
    calls: Vec<Call>,
    observer: Option<Observer>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Stub {
    /// A participant that listens on a free port and says yes to everything.
    pub async fn start() -> Self {
        let mut stub = Self::stopped();
        stub.start_again().await;
        stub
    }

    /// A participant whose port refuses connections until [`Stub::start_again`].
    pub fn stopped() -> Self {
        Self { port: super::free_port(), script: Arc::default(), running: None }
    }

    /// Refuses connections from now on and closes those that are open.
    pub async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Listens again on the port it had, with the script and the calls it had.
    pub async fn start_again(&mut self) {
        // A node that was started while we listened had a copy of the listener until it ran its own program.
        let mut listener = None;
        super::until("the port of the participant is free again", async || {
            listener = TcpListener::bind(("127.0.0.1", self.port)).await.ok();
            listener.is_some()
        })
        .await;
        let listener = listener.unwrap();
        let mut running = JoinSet::new();
        running.spawn(accept(listener, Arc::clone(&self.script)));
        self.running = Some(running);
    }

    /// The address of `path` at this participant.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers every call to `path` so, once what [`Stub::next`] was told is used up.
    pub fn always(&self, path: &str, answer: Answer) {
        self.script.lock().unwrap().always.insert(path.to_owned(), answer);
    }

    /// Answers the next calls to `path` so, one after the other.
    pub fn next(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().next.entry(path.to_owned()).or_default().extend(answers);
    }

    /// Runs `look` with every call before it is answered; a test that looks at the log in it sees what was
    /// there when the call arrived.
    pub fn observe<F>(&self, look: impl Fn(Call) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.script.lock().unwrap().observer = Some(Arc::new(move |call| Box::pin(look(call))));
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.script.lock().unwrap().calls.clone()
    }

    /// Every call to `path` so far, in order of arrival.
    pub fn calls_to(&self, path: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| route(&call.path) == path).collect()
    }

    /// How often `path` was called.
    pub fn count(&self, path: &str) -> usize {
        self.calls_to(path).len()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.script.lock().unwrap().calls.clear();
    }

    /// Waits until `path` was called at least `count` times, and gives those calls.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Call> {
        super::until(&format!("{count} calls to {path}"), async || self.count(path) >= count).await;
        self.calls_to(path)
    }
}

async fn accept(listener: TcpListener, script: Arc<Mutex<Script>>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&script)));
    }
}

/// Serves one connection. An error means that the caller is gone, which is the caller's affair.
async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(call)) = wire::read(&mut stream).await {
        let (answer, observer) = receive(&mut script.lock().unwrap(), &call);
        if let Some(look) = observer {
            look(call).await;
        }
        tokio::time::sleep(answer.delay).await;
        if let Some(gate) = &answer.gate {
            gate.pass().await;
        }
        if !matches!(wire::write(stream.get_mut(), &answer).await, Ok(true)) {
            return;
        }
    }
}

fn receive(script: &mut Script, call: &Call) -> (Answer, Option<Observer>) {
    script.calls.push(call.clone());
    let path = route(&call.path);
    let next = script.next.get_mut(path).and_then(VecDeque::pop_front);
    let answer = next.or_else(|| script.always.get(path).cloned()).unwrap_or_else(Answer::ok);
    (answer, script.observer.clone())
}

/// The path without its query.
fn route(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}
