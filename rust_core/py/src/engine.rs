//! `_core.Engine`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use penstock_engine::{
    Completion, EngineOptions, ImportError, ImportedRecord, RawV1Head, Submission,
};
use penstock_model::{Coding, Endpoint, LaneId, Position, SystemClock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyMapping, PyTuple};

use crate::body::{Graveyard, payload};
use crate::options;
use crate::outcome::{CoreError, Refusal, Results, SubmitResult, to_exception};
use crate::segments::{Cut, table_kind};

/// The service behind the fronts. One per data directory and process; opened after any fork.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct Engine {
    engine: penstock_engine::Engine<Py<PyAny>>,
    graveyard: Arc<Graveyard>,
}

fn address(text: Option<&str>) -> Option<IpAddr> {
    // What is no address (a peer on a Unix socket, rubbish in a header) is stored as none.
    text.and_then(|text| text.parse().ok())
}

/// The headers of capture v1, in the order of `RawV1Head`.
type V1Headers = (
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
    Option<PyBackedBytes>,
);

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, options: &Bound<'_, PyMapping>) -> PyResult<Self> {
        let options: EngineOptions = options::read(options)?;
        let opened = py.detach(|| {
            penstock_engine::Engine::open(
                options,
                penstock_engine::real_filesystem(),
                Arc::new(SystemClock::new()),
            )
        });
        let engine = opened.map_err(|error| to_exception(&error))?;
        Ok(Self {
            engine,
            graveyard: Arc::default(),
        })
    }

    fn lanes(&self) -> Vec<(String, u64, u64)> {
        let lanes = self.engine.lanes().into_iter();
        lanes
            .map(|(lane, first, last)| (lane.to_string(), first.get(), last.get()))
            .collect()
    }

    fn table_note<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let note = py
            .detach(|| self.engine.table_note())
            .map_err(|error| to_exception(&error))?;
        Ok(note.map(|note| PyBytes::new(py, &note)))
    }

    fn start(&self, committed: HashMap<String, HashMap<String, u64>>) -> PyResult<()> {
        let mut passed = Vec::new();
        for (table, lanes) in committed {
            for (lane, position) in lanes {
                let lane = LaneId::parse(&lane)
                    .ok_or_else(|| PyValueError::new_err(format!("no lane {lane}")))?;
                passed.push((table_kind(&table)?, lane, Position::new(position)));
            }
        }
        self.engine
            .start(&passed)
            .map_err(|error| to_exception(&error))
    }

    #[pyo3(signature = (reason))]
    fn hold_commits(&self, reason: Option<String>) {
        self.engine.hold_commits(reason);
    }

    #[getter]
    fn completion_fd(&self) -> RawFd {
        self.engine.completion_fd()
    }

    // Not detached: admission and a queue are a microsecond, less than two switches would cost.
    #[pyo3(signature = (ticket, body, endpoint, coding, sent_at_us, client_address, user_agent=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "a request's parts, each as it came"
    )]
    fn submit_http(
        &self,
        ticket: Py<PyAny>,
        body: Bound<'_, PyBytes>,
        endpoint: u8,
        coding: u8,
        sent_at_us: Option<i64>,
        client_address: Option<&str>,
        user_agent: Option<&[u8]>,
    ) -> PyResult<Option<Refusal>> {
        let unknown = || PyValueError::new_err("unknown endpoint or coding");
        let submission = Submission::Http {
            body: payload(PyBackedBytes::from(body), &self.graveyard),
            endpoint: Endpoint::from_number(endpoint).ok_or_else(unknown)?,
            coding: Coding::from_number(coding).ok_or_else(unknown)?,
            sent_at_us,
            client_address: address(client_address),
            user_agent: user_agent.map(<[u8]>::to_vec),
        };
        Ok(self.submit(ticket, submission))
    }

    // Not detached, as above.
    #[pyo3(signature = (ticket, body, endpoint, coding, head, client_address))]
    fn submit_ai(
        &self,
        ticket: Py<PyAny>,
        body: Bound<'_, PyBytes>,
        endpoint: u8,
        coding: u8,
        head: (String, Option<String>, Option<i64>),
        client_address: Option<&str>,
    ) -> PyResult<Option<Refusal>> {
        let (content_type, token, sent_at_us) = head;
        let unknown = || PyValueError::new_err("unknown endpoint or coding");
        let submission = Submission::Ai {
            body: payload(PyBackedBytes::from(body), &self.graveyard),
            endpoint: Endpoint::from_number(endpoint).ok_or_else(unknown)?,
            coding: Coding::from_number(coding).ok_or_else(unknown)?,
            content_type,
            token,
            sent_at_us,
            client_address: address(client_address),
        };
        Ok(self.submit(ticket, submission))
    }

    // Not detached, as above.
    #[pyo3(signature = (ticket, body, endpoint, coding, headers, client_address))]
    fn submit_v1(
        &self,
        ticket: Py<PyAny>,
        body: Bound<'_, PyBytes>,
        endpoint: u8,
        coding: Option<u8>,
        headers: V1Headers,
        client_address: Option<&str>,
    ) -> PyResult<Option<Refusal>> {
        let unknown = || PyValueError::new_err("unknown endpoint or coding");
        let endpoint = Endpoint::from_number(endpoint)
            .filter(|endpoint| endpoint.is_v1())
            .ok_or_else(unknown)?;
        let coding = coding.map(|coding| Coding::from_number(coding).ok_or_else(unknown));
        let (authorization, sdk_info, attempt, request_id, timestamp, content_type, user_agent) =
            headers;
        let raw = RawV1Head {
            authorization: authorization.as_deref(),
            sdk_info: sdk_info.as_deref(),
            attempt: attempt.as_deref(),
            request_id: request_id.as_deref(),
            request_timestamp: timestamp.as_deref(),
            content_type: content_type.as_deref(),
            user_agent: user_agent.as_deref(),
            coding: coding.transpose()?,
        };
        let head = match self.engine.check_v1_head(&raw) {
            Ok(head) => head,
            Err(refusal) => return Ok(Some(Refusal::new(refusal))),
        };
        let submission = Submission::V1 {
            body: payload(PyBackedBytes::from(body), &self.graveyard),
            endpoint,
            head,
            client_address: address(client_address),
        };
        Ok(self.submit(ticket, submission))
    }

    #[pyo3(signature = (ticket, message, metadata_token, client_address))]
    fn submit_append(
        &self,
        ticket: Py<PyAny>,
        message: Bound<'_, PyBytes>,
        metadata_token: Option<String>,
        client_address: Option<&str>,
    ) -> Option<Refusal> {
        let submission = Submission::Append {
            message: payload(PyBackedBytes::from(message), &self.graveyard),
            metadata_token,
            client_address: address(client_address),
        };
        self.submit(ticket, submission)
    }

    #[pyo3(signature = (ticket, context, body, stored, believe_window))]
    fn import_record(
        &self,
        py: Python<'_>,
        ticket: Py<PyAny>,
        context: Vec<u8>,
        body: Bound<'_, PyBytes>,
        stored: Vec<u32>,
        believe_window: bool,
    ) -> PyResult<Option<Refusal>> {
        let record = ImportedRecord {
            context,
            payload: payload(PyBackedBytes::from(body), &self.graveyard),
            stored,
            believe_window,
        };
        let imported = py.detach(|| self.engine.import(ticket, record));
        match imported {
            Ok(()) => Ok(None),
            Err((_, ImportError::Refused(refusal))) => {
                self.graveyard.clear();
                Ok(Some(Refusal::new(refusal)))
            }
            Err((_, ImportError::Unreadable { reason })) => {
                Err(CoreError::new_err(("record_unreadable", reason)))
            }
        }
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.graveyard.clear();
        let list = PyList::empty(py);
        for (ticket, completion) in self.engine.drain() {
            let result = match completion {
                Completion::Stored(summary) => {
                    Bound::new(py, SubmitResult::new(py, summary))?.into_any()
                }
                Completion::Appended(message) => PyBytes::new(py, &message).into_any(),
                Completion::Results { text, retry } => {
                    Bound::new(py, Results::new(py, &text, retry))?.into_any()
                }
                Completion::Refused(refusal) => Bound::new(py, Refusal::new(refusal))?.into_any(),
            };
            list.append(PyTuple::new(py, [ticket.into_bound(py), result])?)?;
        }
        Ok(list)
    }

    fn next_cut(&self, py: Python<'_>, timeout_ms: u64) -> Option<Cut> {
        py.detach(|| self.engine.next_cut(Duration::from_millis(timeout_ms)))
            .map(Cut::new)
    }

    fn cut_committed(
        &self,
        py: Python<'_>,
        position: u64,
        committed: HashMap<String, u64>,
        note: &[u8],
    ) -> PyResult<()> {
        let mut tables = Vec::new();
        for (table, passed) in committed {
            // A table without rows in this cut may not have passed it.
            if passed >= position {
                tables.push(table_kind(&table)?);
            }
        }
        py.detach(|| {
            self.engine
                .cut_committed(Position::new(position), &tables, note)
        })
        .map_err(|error| to_exception(&error))
    }

    fn discard_cut(&self, position: u64) {
        self.engine.discard_cut(Position::new(position));
    }

    fn flush(&self) {
        self.engine.flush();
    }

    fn drain_and_stop_admission(&self) {
        self.engine.stop_admission();
    }

    fn replace_projects(&self, py: Python<'_>, projects_json: &str) -> PyResult<()> {
        let projects = options::projects(py, projects_json)?;
        self.engine.replace_projects(&projects);
        Ok(())
    }

    #[getter]
    fn in_flight(&self) -> usize {
        self.engine.in_flight()
    }

    #[getter]
    fn backlog(&self) -> (u64, u64) {
        self.engine.backlog()
    }

    fn state(&self) -> (&'static str, &'static str) {
        let report = self.engine.state();
        (report.state.as_str(), report.reason)
    }

    fn metrics(&self) -> String {
        self.engine.metrics()
    }

    fn log_events(&self) -> Vec<(&'static str, &'static str, HashMap<&'static str, String>)> {
        // Called once a second: bodies that were built while no request came go here.
        self.graveyard.clear();
        let events = self.engine.take_log_events().into_iter();
        events
            .map(|event| {
                (
                    event.level.as_str(),
                    event.name,
                    event.fields.into_iter().collect(),
                )
            })
            .collect()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.engine.close());
        self.graveyard.clear();
    }
}

impl Engine {
    fn submit(&self, ticket: Py<PyAny>, submission: Submission) -> Option<Refusal> {
        match self.engine.submit(ticket, submission) {
            Ok(()) => None,
            Err((_, refusal)) => {
                // While nothing completes, refused bodies would pile up until the next look.
                self.graveyard.clear();
                Some(Refusal::new(refusal))
            }
        }
    }
}
