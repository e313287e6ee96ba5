//! Who may be connected, and who has to leave when it is full.
//!
//! ```text
//!  accepted ─► doorstep ─┬─► a seat is free, or somebody idle gives up theirs ─► served
//!                        └─► everybody has a request in flight ────────────────► 503, and goodbye
//! ```
//!
//! A connection without a request may be closed at any time (RFC 9112, 9.6), so ten thousand idle ones keep nobody out: those
//! that have never asked for anything go first, the longest idle before the others. Who has only just come is about to ask, and
//! goes last, as long as those are fewer than the others. Where nobody is idle, the newcomer is told so at once instead of being
//! left to wait for nobody knows how long.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Connections beyond the seats: those that are told that there is none. As many as half of the seats, within these; more wait
/// until they are accepted.
const DOORSTEP: RangeInclusive<usize> = 16..=1_000;

/// How long the one who has to leave may take.
const FAREWELL: Duration = Duration::from_millis(50);

/// Within this, a request comes that was sent with the connection.
const ARRIVAL: Duration = Duration::from_millis(200);

/// The seats of one listener.
pub(super) struct Seats {
    free: Arc<Semaphore>,
    doorstep: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Those that have never asked for anything, in the order in which they came, and when that was.
    silent: BTreeMap<u64, (Instant, CancellationToken)>,
    /// Those that have, the longest idle first.
    asked: BTreeMap<u64, CancellationToken>,
    turns: u64,
}

/// The place of an idle guest among the others.
#[derive(Debug, Clone, Copy)]
struct Turn {
    has_asked: bool,
    number: u64,
}

/// A connection with a seat. Dropping it leaves.
pub(super) struct Guest {
    seats: Arc<Seats>,
    leave: CancellationToken,
    state: Mutex<State>,
    _seat: OwnedSemaphorePermit,
}

struct State {
    has_asked: bool,
    /// In HTTP/2 there can be several at once.
    in_flight: usize,
    /// Its place among the idle ones; `None` while it has a request in flight.
    idle: Option<Turn>,
}

/// Somebody has a request in flight, until this is dropped.
pub(super) struct Busy(Arc<Guest>);

impl Seats {
    pub(super) fn new(count: usize) -> Arc<Self> {
        let (free, doorstep) =
            (Semaphore::new(count), Semaphore::new((count / 2).clamp(*DOORSTEP.start(), *DOORSTEP.end())));
        Arc::new(Self { free: Arc::new(free), doorstep: Arc::new(doorstep), idle: Mutex::default() })
    }

    /// Waits until one more connection may be accepted.
    pub(super) async fn doorstep(&self) -> OwnedSemaphorePermit {
        self.doorstep.clone().acquire_owned().await.expect("nothing closes the doorstep")
    }

    /// A seat for whoever is told to leave by `leave`; `None` where everybody has a request in flight.
    pub(super) async fn take(self: Arc<Self>, leave: CancellationToken) -> Option<Arc<Guest>> {
        let seat = match self.free.clone().try_acquire_owned() {
            Ok(seat) => seat,
            Err(_) if self.send_one_away() => timeout(FAREWELL, self.free.clone().acquire_owned())
                .await
                .ok()?
                .expect("nothing closes the seats"),
            Err(_) => return None,
        };
        let turn = self.idle().put(false, &leave);
        let state = Mutex::new(State { has_asked: false, in_flight: 0, idle: Some(turn) });
        Some(Arc::new(Guest { seats: self, leave, state, _seat: seat }))
    }

    fn send_one_away(&self) -> bool {
        self.idle().pop().inspect(CancellationToken::cancel).is_some()
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().expect("no code panics while it holds this lock")
    }
}

impl Idle {
    fn put(&mut self, has_asked: bool, leave: &CancellationToken) -> Turn {
        self.turns += 1;
        let turn = Turn { has_asked, number: self.turns };
        if has_asked {
            self.asked.insert(turn.number, leave.clone());
        } else {
            self.silent.insert(turn.number, (Instant::now(), leave.clone()));
        }
        turn
    }

    fn remove(&mut self, turn: Turn) {
        if turn.has_asked {
            self.asked.remove(&turn.number);
        } else {
            self.silent.remove(&turn.number);
        }
    }

    /// Who has to leave.
    fn pop(&mut self) -> Option<CancellationToken> {
        let first = self.silent.first_key_value();
        let is_arriving = first.is_some_and(|(_, (since, _))| since.elapsed() < ARRIVAL);
        if first.is_none() || (is_arriving && self.silent.len() < self.asked.len()) {
            return self.asked.pop_first().map(|(_, leave)| leave);
        }
        self.silent.pop_first().map(|(_, (_, leave))| leave)
    }
}

impl Guest {
    /// A request has come.
    pub(super) fn asks(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.has_asked = true;
        state.in_flight += 1;
        if let Some(turn) = state.idle.take() {
            self.seats.idle().remove(turn);
        }
        Busy(self.clone())
    }

    /// Waits until somebody else needs the seat.
    pub(super) async fn is_sent_away(&self) {
        self.leave.cancelled().await;
    }

    /// Whether it has ever asked for anything.
    pub(super) fn has_asked(&self) -> bool {
        self.state().has_asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(guest) = self;
        let mut state = guest.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.idle = Some(guest.seats.idle().put(true, &guest.leave));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(turn) = self.state().idle.take() {
            self.seats.idle().remove(turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sit(seats: &Arc<Seats>) -> (Option<Arc<Guest>>, CancellationToken) {
        let leave = CancellationToken::new();
        (seats.clone().take(leave.clone()).await, leave)
    }

    /// Whoever is told to leave does so.
    fn leaves(guest: Option<Arc<Guest>>, leave: CancellationToken) {
        let guest = guest.expect("it has a seat");
        drop(tokio::task::spawn_local(async move {
            leave.cancelled().await;
            drop(guest);
        }));
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_is_full_of_idle_guests_the_one_that_never_asked_gives_up_its_seat() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let seats = Seats::new(2);
                let ((asked, told_first), (silent, told_second)) = (sit(&seats).await, sit(&seats).await);
                drop(asked.as_ref().unwrap().asks());
                leaves(asked, told_first.clone());
                leaves(silent, told_second.clone());
                tokio::time::sleep(ARRIVAL).await;
                let (third, _) = sit(&seats).await;
                assert!(third.is_some());
                assert_eq!((told_first.is_cancelled(), told_second.is_cancelled()), (false, true));
                let busy = third.as_ref().unwrap().asks();
                let (fourth, _) = sit(&seats).await;
                assert!(fourth.is_some(), "now it is the other one's turn");
                assert!(told_first.is_cancelled());
                drop((busy, third, fourth));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_only_just_come_stays_while_somebody_else_is_idle() {
        let seats = Seats::new(3);
        let mut regulars = Vec::new();
        for _ in 0..2 {
            let (guest, leave) = sit(&seats).await;
            drop(guest.as_ref().unwrap().asks());
            regulars.push((guest, leave));
        }
        tokio::time::sleep(ARRIVAL * 100).await;
        let (_newcomer, told_newcomer) = sit(&seats).await;
        let told = || {
            (regulars.iter().filter(|(_, leave)| leave.is_cancelled()).count(), told_newcomer.is_cancelled())
        };
        assert!(seats.send_one_away());
        assert_eq!(told(), (1, false));
        assert!(seats.send_one_away());
        assert_eq!(told(), (1, true), "those who never ask send nobody away for long");
        assert!(seats.send_one_away() && !seats.send_one_away());
        assert_eq!(told(), (2, true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_two_requests_in_flight_is_idle_once_both_are_answered() {
        let seats = Seats::new(1);
        let (guest, _) = sit(&seats).await;
        let guest = guest.unwrap();
        let (one, two) = (guest.asks(), guest.asks());
        drop(one);
        assert!(!seats.send_one_away());
        drop(two);
        assert!(seats.send_one_away() && !seats.send_one_away(), "it stands in the line once");
    }

    #[tokio::test(start_paused = true)]
    async fn where_everybody_has_a_request_in_flight_a_newcomer_gets_no_seat() {
        let seats = Seats::new(2);
        let (one, two) = (sit(&seats).await.0.unwrap(), sit(&seats).await.0.unwrap());
        let busy = (one.asks(), two.asks());
        assert!(sit(&seats).await.0.is_none());
        drop((busy.0, one));
        // It was idle for a moment and is gone: nobody has to leave.
        assert!(sit(&seats).await.0.is_some());
        assert!(!two.leave.is_cancelled());
    }
}
