//! The log of a stopped, copied or running server, for the operator's tools.

use std::path::Path;

use parking_lot::Mutex;
use penstock_engine::{CheckStep, FileReport, FoundDamage, InspectedRecord, LogInspector};
use penstock_model::Position;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::outcome::to_exception;

/// Bytes that can't be read although they were synced.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct LogDamage {
    file: String,
    damage: FoundDamage,
}

#[pymethods]
impl LogDamage {
    #[getter]
    fn file(&self) -> &str {
        &self.file
    }

    #[getter]
    fn why(&self) -> &'static str {
        self.damage.kind.why()
    }

    #[getter]
    fn first_byte(&self) -> u64 {
        self.damage.first_byte
    }

    #[getter]
    fn last_byte(&self) -> u64 {
        self.damage.last_byte
    }

    #[getter]
    fn first_position(&self) -> u64 {
        self.damage.first_position.get()
    }

    #[getter]
    fn last_position(&self) -> u64 {
        self.damage.last_position.get()
    }

    #[getter]
    fn kept_aside(&self) -> Option<String> {
        let path = self.damage.kept_aside.as_ref();
        path.map(|path| path.display().to_string())
    }
}

/// One file of the log.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct LogFile {
    report: FileReport,
}

fn damage_of(report: &FileReport) -> Vec<LogDamage> {
    let file = report.path.display().to_string();
    let found = report.damage.iter().cloned();
    found
        .map(|damage| LogDamage {
            file: file.clone(),
            damage,
        })
        .collect()
}

#[pymethods]
impl LogFile {
    #[getter]
    fn path(&self) -> String {
        self.report.path.display().to_string()
    }

    #[getter]
    fn lane(&self) -> Option<String> {
        self.report.lane.map(|lane| lane.to_string())
    }

    #[getter]
    fn created_at_us(&self) -> i64 {
        self.report.created_at_us
    }

    #[getter]
    fn first_position(&self) -> u64 {
        self.report.first.get()
    }

    #[getter]
    fn last_position(&self) -> u64 {
        self.report.last.get()
    }

    #[getter]
    fn records(&self) -> u64 {
        self.report.records
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.report.bytes
    }

    #[getter]
    fn unfinished_bytes(&self) -> u64 {
        self.report.unfinished_bytes
    }

    #[getter]
    fn seal(&self) -> &'static str {
        self.report.seal.as_str()
    }

    #[getter]
    fn damage(&self) -> Vec<LogDamage> {
        damage_of(&self.report)
    }
}

/// One record of the log.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct LogRecord {
    record: InspectedRecord,
}

#[pymethods]
impl LogRecord {
    #[getter]
    fn lane(&self) -> String {
        self.record.lane.to_string()
    }

    #[getter]
    fn position(&self) -> u64 {
        self.record.position.get()
    }

    #[getter]
    fn problem(&self) -> Option<&str> {
        self.record.problem.as_deref()
    }

    #[getter]
    fn received_at_us(&self) -> i64 {
        self.record.received_at_us()
    }

    #[getter]
    fn endpoint(&self) -> &'static str {
        self.record.endpoint()
    }

    #[getter]
    fn project(&self) -> String {
        self.record.project()
    }

    #[getter]
    fn token(&self) -> Option<String> {
        self.record.token()
    }

    #[getter]
    fn request_token(&self) -> Option<&str> {
        self.record.request_token()
    }

    #[getter]
    fn content_type(&self) -> String {
        self.record.content_type()
    }

    #[getter]
    fn sdk_info(&self) -> Option<&str> {
        self.record.sdk_info()
    }

    #[getter]
    fn client_address(&self) -> Option<String> {
        self.record
            .client_address()
            .map(|address| address.to_string())
    }

    #[getter]
    fn sent_at_us(&self) -> Option<i64> {
        self.record.sent_at_us()
    }

    #[getter]
    fn rewritten(&self) -> bool {
        self.record.is_rewritten()
    }

    #[getter]
    fn accepted(&self) -> u64 {
        self.record.events().accepted
    }

    #[getter]
    fn duplicates(&self) -> u64 {
        self.record.events().duplicates
    }

    #[getter]
    fn rejected(&self) -> u64 {
        self.record.events().rejected
    }

    #[getter]
    fn coding(&self) -> &'static str {
        self.record.coding()
    }

    #[getter]
    fn payload_bytes(&self) -> usize {
        self.record.payload.len()
    }

    #[getter]
    fn identity(&self) -> Option<String> {
        self.record.identity()
    }

    fn context<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.record.context())
    }

    fn accepted_events(&self, py: Python<'_>) -> PyResult<Vec<(usize, String, String, String)>> {
        let events = py
            .detach(|| self.record.accepted_events())
            .map_err(|error| to_exception(&error))?;
        Ok(events
            .into_iter()
            .map(|one| (one.index, one.uuid, one.event, one.distinct_id))
            .collect())
    }

    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.record.payload.as_slice())
    }

    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let text = py
            .detach(|| self.record.text())
            .map_err(|error| to_exception(&error))?;
        Ok(PyBytes::new(py, &text))
    }
}

/// Goes through a log, without a lock and without changing it.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct LogReader {
    inspector: Mutex<LogInspector>,
}

#[pymethods]
impl LogReader {
    #[new]
    #[pyo3(signature = (data_directory, first_position, last_position))]
    fn new(
        py: Python<'_>,
        data_directory: &str,
        first_position: u64,
        last_position: u64,
    ) -> PyResult<Self> {
        let opened = py.detach(|| {
            LogInspector::open(
                Path::new(data_directory),
                Position::new(first_position),
                Position::new(last_position),
            )
        });
        Ok(Self {
            inspector: Mutex::new(opened.map_err(|error| to_exception(&error))?),
        })
    }

    fn next_records(&self, py: Python<'_>, decode: bool) -> PyResult<Option<Vec<LogRecord>>> {
        let records = py
            .detach(|| self.inspector.lock().next_records(decode))
            .map_err(|error| to_exception(&error))?;
        Ok(records.map(|records| {
            let records = records.into_iter();
            records.map(|record| LogRecord { record }).collect()
        }))
    }

    fn take_damage(&self) -> Vec<LogDamage> {
        let report = self.inspector.lock().take_damaged();
        report.as_ref().map(damage_of).unwrap_or_default()
    }

    fn next_file(&self, py: Python<'_>) -> PyResult<Option<LogFile>> {
        loop {
            let step = py
                .detach(|| self.inspector.lock().check())
                .map_err(|error| to_exception(&error))?;
            match step {
                CheckStep::More => py.check_signals()?,
                CheckStep::File(report) => return Ok(Some(LogFile { report })),
                CheckStep::End => return Ok(None),
            }
        }
    }
}

type KeptAside = (String, u64, u64, String);
type CutTail = (String, u64, u64);

/// Repair the log of a stopped server as its next start would.
#[pyfunction]
pub(crate) fn repair_log(
    py: Python<'_>,
    data_directory: &str,
) -> PyResult<(Vec<KeptAside>, Option<CutTail>)> {
    let recovery = py
        .detach(|| penstock_engine::repair_log(Path::new(data_directory)))
        .map_err(|error| to_exception(&error))?;
    let fresh = recovery.damage.into_iter().filter(|damage| !damage.known);
    let kept = fresh.map(|damage| {
        let path = damage.kept_aside.display().to_string();
        (damage.file, damage.first_byte, damage.last_byte, path)
    });
    let cut = recovery.torn_tail;
    Ok((
        kept.collect(),
        cut.map(|tail| (tail.file, tail.offset, tail.cut_bytes)),
    ))
}

/// Read one file of `wal/quarantine/`: the record, why it was set aside, and when.
#[pyfunction]
pub(crate) fn read_quarantined(py: Python<'_>, path: &str) -> PyResult<(LogRecord, String, i64)> {
    let read = py
        .detach(|| penstock_engine::read_quarantined(Path::new(path)))
        .map_err(|error| to_exception(&error))?;
    let record = LogRecord {
        record: read.record,
    };
    Ok((record, read.why, read.set_aside_at_us))
}
