//! What the configuration says of the coordinator.

/// Limits of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// The most transactions that may be open at once; beyond it a request is answered with 503.
    /// Transactions found in the log on a start are always taken up, and count.
    pub open_transactions_max: usize,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self { open_transactions_max: 20_000 }
    }
}
