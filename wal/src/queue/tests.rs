//! What one commit takes, what the committer sees of the rest, and when it is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use tokio::time::advance;

use super::*;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A queue and what it was given, so that nobody hangs up.
struct Filled {
    queue: Queue,
    answers: Vec<oneshot::Receiver<Result<Lsn, Poisoned>>>,
}

impl Filled {
    fn new() -> Self {
        Self { queue: Queue::new(1000), answers: Vec::new() }
    }

    async fn append(&mut self, len: usize, is_waited_for: bool) {
        self.answers.push(self.queue.append(vec![0; len], is_waited_for).await.unwrap());
    }

    fn retire(&self) {
        let (done, _) = oneshot::channel();
        self.queue.push(Request::Retire { below: Lsn::FIRST, done }).unwrap();
    }

    /// The lengths of what the next commit takes.
    fn taken(&self) -> Vec<usize> {
        self.queue.take().unwrap().payloads.iter().map(Vec::len).collect()
    }
}

#[tokio::test]
async fn a_commit_takes_a_mebibyte_and_not_a_byte_more_unless_one_record_is_longer() {
    let mut filled = Filled::new();
    for len in [MIB / 2, MIB / 4, MIB / 4, 1, MIB - 1, 3 * MIB, 5] {
        filled.append(len, true).await;
    }
    assert_eq!(filled.queue.len(), 7);
    assert_eq!(filled.taken(), [MIB / 2, MIB / 4, MIB / 4]);
    assert_eq!(filled.taken(), [1, MIB - 1]);
    assert_eq!(filled.taken(), [3 * MIB]);
    assert_eq!(filled.taken(), [5]);
    assert_eq!((filled.taken(), filled.queue.len()), (vec![], 0));
}

#[tokio::test]
async fn a_long_record_takes_more_room_and_gives_back_what_it_took() {
    let queue = Queue::new(10);
    let room = || queue.room.available_permits();
    let mut answers = vec![queue.append(vec![0; 16 * KIB - 1], true).await.unwrap()];
    assert_eq!(room(), 9);
    answers.push(queue.append(vec![0; 48 * KIB], true).await.unwrap());
    assert_eq!(room(), 5);
    let batch = queue.take().unwrap();
    assert_eq!((room(), batch.payloads.len()), (10, 2));
    // One that is longer than the queue takes all of it.
    answers.push(queue.append(vec![0; 10_000 * KIB], true).await.unwrap());
    assert_eq!((room(), answers.len()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn those_that_are_waited_for_are_counted_apart_and_timed() {
    let mut filled = Filled::new();
    let start = Instant::now();
    let second = Duration::from_secs(1);
    filled.append(MIB / 2, false).await;
    let glance = filled.queue.glance();
    assert_eq!((glance.len, glance.waited, glance.since), (1, 0, Some(start)));
    for _ in 0..3 {
        advance(second).await;
        filled.append(MIB / 4, true).await;
    }
    let glance = filled.queue.glance();
    assert_eq!((glance.len, glance.waited, glance.since), (4, 3, Some(start + second)));
    let batch = filled.queue.take().unwrap();
    assert_eq!((batch.payloads.len(), batch.waited, batch.span), (3, 2, 2 * second));
    // What was left behind could have gone with it, and waits from now on.
    advance(second).await;
    let glance = filled.queue.glance();
    assert_eq!((glance.len, glance.waited, glance.since), (1, 1, Some(start + 3 * second)));
    let batch = filled.queue.take().unwrap();
    assert_eq!((batch.payloads.len(), batch.waited, filled.queue.glance().since), (1, 1, None));
    advance(second).await;
    filled.append(1, true).await;
    assert_eq!(filled.queue.glance().since, Some(start + 5 * second));
}

#[tokio::test]
async fn what_is_no_record_is_urgent_and_ends_a_commit() {
    let mut filled = Filled::new();
    filled.append(1, true).await;
    assert!(!filled.queue.glance().is_urgent);
    filled.retire();
    filled.append(2, true).await;
    assert!(filled.queue.glance().is_urgent);
    let batch = filled.queue.take().unwrap();
    assert!(matches!(batch.then, Some(Request::Retire { .. })) && batch.payloads.len() == 1);
    assert!(!filled.queue.glance().is_urgent);
    filled.queue.abandon();
    assert!(filled.queue.glance().is_urgent, "there will be no more");
    assert_eq!(filled.taken(), [2], "what was queued is written");
    assert!(filled.queue.take().is_none());
}

#[tokio::test]
async fn whoever_waits_for_more_is_woken_once_there_is_more_or_something_urgent() {
    let more = |filled: &Filled, len, count: &Arc<Count>| {
        let waker = Waker::from(count.clone());
        filled.queue.poll_more_than(len, &mut Context::from_waker(&waker)).is_ready()
    };
    let (mut filled, count) = (Filled::new(), Arc::new(Count::default()));
    filled.append(1, true).await;
    assert!(more(&filled, 0, &count));
    assert!(!more(&filled, 2, &count));
    filled.append(1, true).await;
    assert_eq!(count.0.load(Relaxed), 0, "two are not more than two");
    filled.append(1, true).await;
    assert_eq!(count.0.load(Relaxed), 1);
    for urgent in [Filled::retire, |filled: &Filled| filled.queue.abandon()] {
        let (filled, count) = (Filled::new(), Arc::new(Count::default()));
        assert!(!more(&filled, 9, &count));
        urgent(&filled);
        assert_eq!(count.0.load(Relaxed), 1);
        assert!(more(&filled, 9, &count));
        filled.queue.more_than(9).await;
    }
}

#[tokio::test]
async fn the_first_reason_ends_it_for_those_in_flight_those_that_wait_and_those_to_come() {
    let (mut filled, count) = (Filled::new(), Arc::new(Count::default()));
    filled.append(1, true).await;
    assert_eq!(filled.taken(), [1]);
    filled.append(2, true).await;
    let waker = Waker::from(count.clone());
    assert!(filled.queue.poll_more_than(5, &mut Context::from_waker(&waker)).is_pending());
    assert!(!filled.queue.has_ended());
    assert!(filled.queue.fail(&Poisoned::stopped()));
    assert!(!filled.queue.fail(&Poisoned::hung(Duration::ZERO)), "the second reason does not count");
    assert!(filled.queue.has_ended() && filled.queue.glance().is_urgent);
    assert_eq!(count.0.load(Relaxed), 1);
    assert!(filled.queue.take().is_none() && filled.queue.finish().is_none());
    assert_eq!(filled.queue.failure().to_string(), Poisoned::stopped().to_string());
    filled.queue.append(vec![], true).await.unwrap_err();
    for answer in filled.answers {
        answer.await.unwrap().unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_more_as_long_as_there_is_none() {
    let mut filled = Filled::new();
    filled.append(1, true).await;
    let waited = tokio::time::timeout(Duration::from_secs(1), filled.queue.more_than(1)).await;
    assert!(waited.is_err(), "there is no more than one");
}
