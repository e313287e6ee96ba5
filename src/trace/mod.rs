//! One trace a request: as W3C trace context (<https://www.w3.org/TR/trace-context/>), and as spans that are exported.
//!
//! It is taken over from the client, and every call carries it with a span of its own. That of a transaction, which is begun
//! here where the client has none, is kept in the log, so that a call made after a crash is found beside those before it.
//!
//! | file | holds |
//! |---|---|
//! | this one | what the header and the log say of a trace |
//! | [`span`] | one request or one call, from its beginning to its end |
//! | `otlp` | where spans go: to a collector, by OTLP. Without the feature `otlp`, `no_otlp` stands in its place |

#[cfg_attr(not(feature = "otlp"), path = "no_otlp.rs")]
mod otlp;
pub mod span;

pub use otlp::Exporter;
pub use span::{Context, Span, Spans};

use std::fmt;

use serde::{Deserialize, Serialize};

/// A trace and its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    id: u128,
    flags: u8,
}

impl Trace {
    /// A trace that begins here; sampled.
    #[must_use]
    pub fn begin(random: u128) -> Self {
        Self { id: random.max(1), flags: 1 }
    }

    /// The trace of a client's `traceparent` header, and the client's own span in it; `None` where that is not well formed,
    /// in which case the standard says to begin a new one.
    #[must_use]
    pub fn parse(header: &str) -> Option<(Self, u64)> {
        let known = header.is_ascii() && header.bytes().all(|byte| !byte.is_ascii_uppercase());
        let mut parts = header.split('-');
        let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex(version, 2)?;
        // Version 00 has just these four parts; a later one may have more.
        if !known || version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (id, span, flags) = (hex(id, 32)?, hex(span, 16)?, hex(flags, 2)?);
        let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags & 1).ok()?);
        (id != 0 && span != 0).then_some((Self { id, flags }, span))
    }

    /// Whether its spans are to be kept.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The `traceparent` of one call, whose span is `span`.
    #[must_use]
    pub fn parent(self, span: u64) -> impl fmt::Display {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, span.max(1), self.flags)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_call_keeps_the_trace_of_the_client_and_has_a_span_of_its_own() {
        let (trace, span) = Trace::parse(CLIENT).unwrap();
        assert_eq!((span, trace.is_sampled()), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(
            trace.parent(0xabc).to_string(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000abc-01"
        );
    }

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        for header in ["", "00-x", &CLIENT.to_uppercase(), &CLIENT[..54], &format!("{CLIENT}-x")] {
            assert_eq!(Trace::parse(header), None, "{header}");
        }
        assert_eq!(Trace::parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(Trace::parse(&CLIENT.replacen("00", "ff", 1)), None);
        assert!(Trace::parse(&format!("{}-later", CLIENT.replacen("00", "01", 1))).is_some());
    }
}
