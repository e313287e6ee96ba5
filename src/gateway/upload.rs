//! The body of a client's request on its way to a backend: streamed, never held.
//!
//! A call that was never sent may move to another endpoint, but only while nobody has begun to read the
//! body: what has been read is gone. So the body is lent to each attempt, and the first that reads it
//! has it for good.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, BodyDataStream, HttpBody as _};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::time::Instant;

/// A request body that several attempts can ask for and one can have.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The body, until an attempt begins to read it. `None` from the start: the request has no body.
    whole: Option<Body>,
    has_body: bool,
    /// When something last moved: the start, or the last chunk.
    moved: Instant,
}

impl Upload {
    /// A body to send; one that is known to be empty is not sent at all.
    pub(super) fn new(body: Body) -> Self {
        let has_body = !body.is_end_stream();
        let state = State { whole: has_body.then_some(body), has_body, moved: Instant::now() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// A request without a body.
    pub(super) fn none() -> Self {
        Self::new(Body::empty())
    }

    /// Whether no attempt has begun to read the body, so that another one may.
    pub(super) fn is_untouched(&self) -> bool {
        self.with(|state| !state.has_body || state.whole.is_some())
    }

    /// When the body last moved.
    pub(super) fn last_moved(&self) -> Instant {
        self.with(|state| state.moved)
    }

    /// What an attempt sends; `None` where there is no body.
    pub(super) fn lend(&self) -> Option<reqwest::Body> {
        self.with(|state| state.has_body).then(|| reqwest::Body::wrap_stream(self.chunks()))
    }

    fn chunks(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + use<> {
        let (taker, watcher) = (self.clone(), self.clone());
        stream::once(async move { taker.take() })
            .filter_map(future::ready)
            .flatten()
            .inspect(move |_| watcher.with(|state| state.moved = Instant::now()))
    }

    fn take(&self) -> Option<BodyDataStream> {
        self.with(|state| state.whole.take()).map(Body::into_data_stream)
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_attempt_that_reads_has_the_body_for_good() {
        let upload = Upload::new(Body::from("abc"));
        let (never_read, read) = (upload.chunks(), upload.chunks());
        drop(never_read);
        assert!(upload.is_untouched());
        let chunks: Vec<_> = read.collect().await;
        assert_eq!(chunks.len(), 1);
        assert!(!upload.is_untouched());
        assert_eq!(upload.chunks().count().await, 0);
    }

    #[test]
    fn a_request_without_a_body_can_always_be_tried_again() {
        let upload = Upload::none();
        assert!(upload.lend().is_none());
        assert!(upload.is_untouched());
    }
}
