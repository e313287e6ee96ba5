//! What is not counted but read at the moment somebody asks for the metrics.

use std::fmt::{self, Debug};
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;

/// Reads a `T`; its default before the node has said how. Clones share that.
pub(super) struct OnRead<T>(Arc<OnceLock<Read<T>>>);

type Read<T> = Box<dyn Fn() -> T + Send + Sync>;

impl<T: Default> OnRead<T> {
    pub(super) fn set(&self, read: impl Fn() -> T + Send + Sync + 'static) {
        // A node says this once; a second time would change nothing.
        let _ = self.0.set(Box::new(read));
    }

    pub(super) fn read(&self) -> T {
        self.0.get().map(|read| read()).unwrap_or_default()
    }
}

impl<T> Default for OnRead<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for OnRead<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Debug for OnRead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRead").finish_non_exhaustive()
    }
}

/// A metric with these series, each with its labels.
pub(super) fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    series: impl Iterator<Item = (L, impl EncodeMetric)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in series {
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
