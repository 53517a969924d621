//! A Python `bytes` as the payload of a request.

use std::sync::Arc;

use parking_lot::Mutex;
use penstock_model::Payload;
use pyo3::pybacked::PyBackedBytes;

/// Bodies that the core is done with, waiting for a thread that holds the interpreter.
///
/// Dropping a Python reference on a core thread would go through PyO3's deferred pool, under a
/// lock that every later entry into the interpreter takes; here the loop drops them in one go.
/// Bounded by the budgets of what is in flight and of the batch cache.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    bodies: Mutex<Vec<PyBackedBytes>>,
}

impl Graveyard {
    /// Drops the bodies. Call it attached to the interpreter.
    pub(crate) fn clear(&self) {
        let bodies = std::mem::take(&mut *self.bodies.lock());
        drop(bodies);
    }
}

struct Body {
    bytes: Option<PyBackedBytes>,
    graveyard: Arc<Graveyard>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.graveyard.bodies.lock().push(bytes);
        }
    }
}

/// Shares `bytes` with the core without a copy.
pub(crate) fn payload(bytes: PyBackedBytes, graveyard: &Arc<Graveyard>) -> Payload {
    Payload::new(Body {
        bytes: Some(bytes),
        graveyard: Arc::clone(graveyard),
    })
}
