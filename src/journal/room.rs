//! Whether the disk has room for more: below a floor nothing new is begun, so that what was begun can end.

use tokio::sync::watch;
use unanimous_wal::Room;

use super::{Journal, Threads};

/// The disk of the log, as last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What is free.
    pub room: Room,
    /// Whether that is too little to begin anything new.
    pub is_nearly_full: bool,
}

/// The least that must be free, and what was.
pub(super) struct Floor {
    /// As configured; where it is not, as much as the reserve.
    min: Option<u64>,
    disk: watch::Sender<Disk>,
}

impl Floor {
    pub(super) fn new(min: Option<u64>) -> Self {
        let disk = Disk { room: Room::ENDLESS, is_nearly_full: false };
        Self { min, disk: watch::Sender::new(disk) }
    }

    fn note(&self, room: Room) -> Disk {
        let min = self.min.unwrap_or(room.reserve);
        let before = *self.disk.borrow();
        // An eighth more than was too little: sled's own files grow and shrink by some MiB.
        let enough = if before.is_nearly_full { min.saturating_add(min / 8) } else { min };
        let now = Disk { room, is_nearly_full: room.free < enough };
        if now.is_nearly_full && !before.is_nearly_full {
            tracing::warn!(free = room.free, min, "the disk is nearly full: new transactions are refused");
        } else if before.is_nearly_full && !now.is_nearly_full {
            tracing::info!(free = room.free, "the disk has room again: new transactions are taken");
        }
        self.disk.send_replace(now);
        now
    }
}

impl Journal {
    /// Looks at the disk, and looks after the reserve on it: to be done a few times a second. Where the disk does not
    /// let itself be looked at, nothing changes: the next record will tell.
    pub async fn look_at_disk(&self) -> Disk {
        let wal = self.wal.clone();
        let room = match self.threads {
            Threads::None => wal.room(),
            Threads::Own => tokio::task::spawn_blocking(move || wal.room()).await.expect("it does not panic"),
        };
        match room {
            Ok(room) => self.floor.note(room),
            Err(error) => {
                tracing::debug!(%error, "the disk could not be looked at");
                self.disk()
            }
        }
    }

    /// The disk as last looked at.
    #[must_use]
    pub fn disk(&self) -> Disk {
        *self.floor.disk.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64) -> Room {
        Room { free, reserve: 800, is_kept: true }
    }

    #[test]
    fn below_the_floor_the_disk_is_nearly_full_until_there_is_an_eighth_more() {
        let floor = Floor::new(Some(1000));
        let full = [1000, 999, 1000, 1124, 1125, 1000].map(|free| floor.note(room(free)).is_nearly_full);
        assert_eq!(full, [false, true, true, true, false, false]);
    }

    #[test]
    fn without_a_floor_in_the_configuration_it_is_as_high_as_the_reserve_and_it_can_be_none() {
        assert_eq!([799, 900].map(|free| Floor::new(None).note(room(free)).is_nearly_full), [true, false]);
        assert!(!Floor::new(Some(0)).note(room(0)).is_nearly_full);
    }
}
