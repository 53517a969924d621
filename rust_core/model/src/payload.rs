//! Bytes of a request, shared without a copy.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// An immutable range of bytes that somebody owns: a Python `bytes`, a `Vec`, a piece of either.
///
/// Cloning shares the owner. The owner is dropped with the last clone, on whichever thread that is.
#[derive(Clone)]
pub struct Payload {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Payload {
    /// Shares the whole of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self {
            owner: Arc::new(owner),
            range: 0..len,
        }
    }

    /// Shares a part of this payload. Panics if `range` is outside of it.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "slice outside the payload"
        );
        let start = self.range.start + range.start;
        let end = self.range.start + range.end;
        Self {
            owner: Arc::clone(&self.owner),
            range: start..end,
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Payload {
    /// Shows the size only: a payload is user data and stays out of logs (SEC-2).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Payload({} bytes)", self.len())
    }
}
