//! PyO3: adapts the engine to Python and decides nothing. Built as `penstock._core`.
//!
//! - In: `bytes` only. They are borrowed without a copy and kept alive until their commit group is
//!   synced and their parsed batch is built or dropped (`body`).
//! - Out: small frozen objects, one a request; nothing per event.
//! - Whatever may wait, or take more than a few microseconds, runs detached from the interpreter.

mod body;
mod engine;
mod inspect;
mod ledger;
mod locked;
mod options;
mod outcome;
mod segments;
mod tail;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The module `penstock._core`.
#[pyo3::pymodule]
mod _core {
    use penstock_engine::CrashPoint;
    use penstock_engine::decode::{DECODER_VERSION, Workspace, decode_request};
    use penstock_model::{
        BodyForm, Code, CodeScope, Coding, DecodeLimits, Endpoint, Outcome, RequestContext, Warning,
    };
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::pybacked::PyBackedBytes;

    use crate::segments::table_kind;

    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::inspect::{LogDamage, LogFile, LogReader, LogRecord, read_quarantined, repair_log};
    #[pymodule_export]
    use crate::ledger::{LedgerProject, LedgerRead, read_ledger};
    #[pymodule_export]
    use crate::locked::DirectoryLock;
    #[pymodule_export]
    use crate::outcome::{CoreError, DataDirectoryError, Refusal, Results, SubmitResult};
    #[pymodule_export]
    use crate::segments::{Cut, SegmentFile};
    #[pymodule_export]
    use crate::tail::{TailRead, read_tail};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        module.add("BUILD_PROFILE", profile)?;
        let features: &[&str] = if cfg!(feature = "testing") {
            &["testing"]
        } else {
            &[]
        };
        module.add(
            "BUILD_FEATURES",
            pyo3::types::PyTuple::new(module.py(), features)?,
        )
    }

    /// List every code of the core: (code, scope, public text); scope: event, request, overload.
    #[pyfunction]
    fn codes() -> Vec<(&'static str, &'static str, &'static str)> {
        let scope = |code: &Code| match code.scope() {
            CodeScope::Event => "event",
            CodeScope::Request => "request",
            CodeScope::Overload => "overload",
        };
        Code::ALL
            .iter()
            .map(|code| (code.as_str(), scope(code), code.public_text()))
            .collect()
    }

    /// List the endpoints that decoding knows: (name, number).
    #[pyfunction]
    fn endpoints() -> Vec<(&'static str, u8)> {
        Endpoint::ALL
            .iter()
            .map(|endpoint| (endpoint.name(), *endpoint as u8))
            .collect()
    }

    /// List the values of the `warnings` column.
    #[pyfunction]
    fn warnings() -> Vec<&'static str> {
        Warning::ALL
            .iter()
            .map(|warning| warning.as_str())
            .collect()
    }

    /// The columns of a table as Delta schema JSON.
    #[pyfunction]
    fn arrow_schema_json(table: &str) -> PyResult<String> {
        table_kind(table).map(penstock_engine::delta_schema_json)
    }

    /// Find the token that a body names, or why it names none. Takes microseconds.
    #[pyfunction]
    fn token_of(
        py: Python<'_>,
        body: &Bound<'_, pyo3::types::PyBytes>,
        coding: u8,
        max_decompressed_bytes: u32,
    ) -> PyResult<Py<PyAny>> {
        let coding =
            Coding::from_number(coding).ok_or_else(|| PyValueError::new_err("unknown coding"))?;
        let payload = penstock_model::Payload::new(PyBackedBytes::from(body.clone()));
        match penstock_engine::token_of(&payload, coding, max_decompressed_bytes) {
            Ok(token) => Ok(token.into_pyobject(py)?.into_any().unbind()),
            Err(refusal) => Ok(Py::new(py, Refusal::new(refusal))?.into_any()),
        }
    }

    /// Names that `PENSTOCK_CRASH_AT` takes; empty without the `testing` feature.
    #[pyfunction]
    fn crash_points() -> Vec<&'static str> {
        CrashPoint::names().to_vec()
    }

    /// Let a test end the process here, as SIGKILL would; nothing without the `testing` feature.
    #[pyfunction]
    fn crash_point(name: &str) -> PyResult<()> {
        if CrashPoint::pass_named(name) {
            Ok(())
        } else {
            Err(PyValueError::new_err(format!("no crash point {name}")))
        }
    }

    /// Decode a body and forget it; the number of accepted events.
    #[pyfunction]
    fn decode_for_bench(
        py: Python<'_>,
        body: &Bound<'_, pyo3::types::PyBytes>,
        endpoint: u8,
        coding: u8,
    ) -> PyResult<usize> {
        let unknown = || PyValueError::new_err("unknown endpoint or coding");
        let context = RequestContext {
            decoder_version: DECODER_VERSION,
            limits: DecodeLimits::DEFAULT,
            endpoint: Endpoint::from_number(endpoint).ok_or_else(unknown)?,
            coding: Coding::from_number(coding).ok_or_else(unknown)?,
            form: BodyForm::Events,
            // 2026-01-01T00:00:00Z; decoding reads no clock.
            received_at_us: 1_767_225_600_000_000,
            client_address: None,
            sent_at_us: None,
            token: None,
            sdk_info: None,
            cookieless: false,
            uuid_seed: [0; 16],
        };
        let payload = penstock_model::Payload::new(PyBackedBytes::from(body.clone()));
        let decoded = py.detach(|| decode_request(&payload, &context, &mut Workspace::default()));
        let batch =
            decoded.map_err(|refusal| PyValueError::new_err(refusal.code.as_str().to_owned()))?;
        let accepted = batch
            .events
            .iter()
            .filter(|event| event.outcome == Outcome::Accepted);
        Ok(accepted.count())
    }
}
