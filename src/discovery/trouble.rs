//! Why a source gave no answer. Each says who is to blame; none names an address or a secret.

/// Why there was no answer. Whatever was known before is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody listens there, or the way is shut.
    #[error("it could not be reached")]
    Unreachable,
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
    /// The connection ended before the answer did.
    #[error("its answer broke off")]
    Broken,
    /// More than anybody needs.
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// It is no answer of such a source.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// The token is missing, wrong, or may not read this.
    #[error(
        "it refuses the token, or that there is none (403); docs/DISCOVERY.md says which rights it needs"
    )]
    Denied,
    /// Too many ask.
    #[error("it takes no more requests for now (429)")]
    Limited,
    /// It answers with another status.
    #[error("it answers with the status {0}")]
    Status(u16),
    /// There is no token where the configuration says.
    #[error("there is no token to show it: {0}")]
    NoToken(String),
    /// A name server that fails, refuses or cannot be asked.
    #[error("the name could not be looked up: {0}")]
    Dns(String),
    /// A file that cannot be read.
    #[error("the file cannot be read: {0}")]
    File(String),
}

/// The most bytes of one answer: a thousand instances have less than a tenth of it.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
