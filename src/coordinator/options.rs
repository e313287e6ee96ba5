//! What the configuration says of the running of transactions.

/// The most that [`CoordinatorOptions::answer_kept_max`] may be.
pub const KEPT_MAX: usize = 512 * 1024;

/// Limits on what the coordinator holds; they stand in the `[node]` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// The most transactions open at once, in doubt or not; a new one is refused with 503 beyond.
    /// Each costs a task and its bodies, a few KiB. Default: 20,000.
    pub open_transactions_max: usize,
    /// The most bytes of branch answers kept in the log for the replay of a keyed transaction; beyond
    /// it the replay has status, outcome and a note. Default: 64 KiB; at most [`KEPT_MAX`].
    pub answer_kept_max: usize,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self { open_transactions_max: 20_000, answer_kept_max: 64 * 1024 }
    }
}
