//! Answers that their client leaves unread, on a connection that carries several.
//!
//! In HTTP/1.1 a client that does not read blocks its connection, and writing to that has a timeout. In HTTP/2 each answer has a
//! window of its own: a client can leave one unread and read on in the others, or in none, and nothing ever blocks. So
//! each answer says when it was last asked for more. One that has more to give and is not asked for it is left unread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use axum::response::Response;
use tokio::time::{Instant, sleep};

use crate::gateway::looking_on;

/// How often it is looked whether one is left unread.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The answers of one connection.
#[derive(Default)]
pub(super) struct Answers(Mutex<Vec<Weak<Mutex<Waits>>>>);

/// What an answer waits for.
#[derive(Clone, Copy)]
enum Waits {
    /// Its backend, or nothing: it is just being asked.
    ForMore,
    /// Its client, since then.
    ForReader(Instant),
}

impl Answers {
    /// The same answer, watched until its last byte was taken.
    pub(super) fn watched(&self, answer: Response) -> Response {
        let waits = Arc::new(Mutex::new(Waits::ForReader(Instant::now())));
        let mut answers = lock(&self.0);
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&waits));
        looking_on(answer, move |polled, _| {
            *lock(&waits) = match polled {
                Poll::Pending => Waits::ForMore,
                Poll::Ready(_) => Waits::ForReader(Instant::now()),
            };
        })
    }

    /// Waits until one of them has been left unread for so long.
    pub(super) async fn one_is_left(&self, patience: Duration) {
        while !self.is_one_left(patience) {
            sleep(LOOK_EVERY.min(patience)).await;
        }
    }

    fn is_one_left(&self, patience: Duration) -> bool {
        let is_left = |waits: &Mutex<Waits>| match *lock(waits) {
            Waits::ForMore => false,
            Waits::ForReader(since) => since.elapsed() >= patience,
        };
        lock(&self.0).iter().filter_map(Weak::upgrade).any(|waits| is_left(&waits))
    }
}

/// No code panics while it holds one of these.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use tokio::time::{advance, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_more_and_is_not_asked_for_it_is_left() {
        let answers = Answers::default();
        let chunks = stream::iter(["a", "b"].map(|chunk| Ok::<_, axum::Error>(Bytes::from(chunk))));
        let mut body = answers.watched(Response::new(Body::from_stream(chunks))).into_body();
        drop(body.frame().await);
        advance(Duration::from_secs(28)).await;
        assert!(!answers.is_one_left(PATIENCE));
        drop(body.frame().await);
        advance(Duration::from_secs(2)).await;
        assert!(!answers.is_one_left(PATIENCE), "it was asked in between");
        answers.one_is_left(PATIENCE).await;
        drop(body);
        assert!(!answers.is_one_left(PATIENCE), "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_waits_for_its_backend_is_not_left() {
        let answers = Answers::default();
        let never = stream::pending::<Result<Bytes, axum::Error>>();
        let mut body = answers.watched(Response::new(Body::from_stream(never))).into_body();
        assert!(timeout(PATIENCE * 2, body.frame()).await.is_err());
        assert!(!answers.is_one_left(PATIENCE));
    }
}
