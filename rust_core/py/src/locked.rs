//! A data directory that a tool has locked.

use std::path::Path;

use parking_lot::Mutex;
use penstock_engine::{EngineError, LockedDirectory};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::outcome::to_exception;

/// The lock of a data directory whose server is stopped.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct DirectoryLock {
    locked: Mutex<Option<LockedDirectory>>,
}

impl DirectoryLock {
    fn with<R: Send>(
        &self,
        py: Python<'_>,
        use_it: impl FnOnce(&LockedDirectory) -> Result<R, EngineError> + Send,
    ) -> PyResult<R> {
        py.detach(|| match &*self.locked.lock() {
            Some(locked) => use_it(locked),
            None => Err(EngineError::Closed),
        })
        .map_err(|error| to_exception(&error))
    }
}

#[pymethods]
impl DirectoryLock {
    #[new]
    fn new(py: Python<'_>, data_directory: &str) -> PyResult<Self> {
        let locked = py
            .detach(|| LockedDirectory::open(Path::new(data_directory)))
            .map_err(|error| to_exception(&error))?;
        Ok(Self {
            locked: Mutex::new(Some(locked)),
        })
    }

    fn table_note<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let note = self.with(py, LockedDirectory::table_note)?;
        Ok(note.map(|note| PyBytes::new(py, &note)))
    }

    fn write_table_note(&self, py: Python<'_>, note: &[u8]) -> PyResult<()> {
        self.with(py, |locked| locked.write_table_note(note))
    }

    fn close(&self) {
        drop(self.locked.lock().take());
    }
}
