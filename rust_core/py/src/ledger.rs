//! The ledger of a live or stopped server.

use std::path::Path;

use penstock_engine::{Counts, LedgerLine};
use penstock_model::Position;
use pyo3::prelude::*;

use crate::outcome::to_exception;

/// What was received for one project.
#[pyclass(frozen, get_all, module = "penstock._core")]
pub(crate) struct LedgerProject {
    project: String,
    settled: (u64, u64, u64),
    waiting: (u64, u64, u64),
    set_aside: (u64, u64, u64),
    recordings: (u64, u64),
}

impl From<LedgerLine> for LedgerProject {
    fn from(line: LedgerLine) -> Self {
        let outcomes = |counts: Counts| (counts.accepted, counts.duplicates, counts.rejected);
        Self {
            project: line.project,
            settled: outcomes(line.settled.received()),
            waiting: outcomes(line.waiting.received()),
            set_aside: outcomes(line.settled.aside()),
            recordings: line.settled.accepted_recordings(),
        }
    }
}

/// The ledger as it was read.
#[pyclass(frozen, get_all, module = "penstock._core")]
pub(crate) struct LedgerRead {
    since: u64,
    passed: u64,
    projects: Vec<Py<LedgerProject>>,
    unreadable_records: u64,
    damage: Vec<String>,
}

/// Read the ledger of a live or stopped server, without a lock.
#[pyfunction]
pub(crate) fn read_ledger(
    py: Python<'_>,
    data_directory: &str,
    passed: u64,
) -> PyResult<LedgerRead> {
    let position = Position::new(passed);
    let read = py
        .detach(|| penstock_engine::read_ledger(Path::new(data_directory), position))
        .map_err(|error| to_exception(&error))?;
    Ok(LedgerRead {
        since: read.since.get(),
        passed: read.passed.get(),
        projects: (read
            .lines
            .into_iter()
            .map(|line| Py::new(py, LedgerProject::from(line))))
        .collect::<PyResult<_>>()?,
        unreadable_records: read.unreadable_records,
        damage: read.damage,
    })
}
