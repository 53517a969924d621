//! Answers and errors as Python objects.

use penstock_engine::{EngineError, SubmitSummary};
use penstock_model::{Code, CodeScope};
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

create_exception!(
    penstock._core,
    CoreError,
    PyException,
    "Something failed in the core: `args` is (stable code, message)."
);
create_exception!(
    penstock._core,
    DataDirectoryError,
    CoreError,
    "The data directory is unusable, of a newer format, or in use by another process."
);

/// The one place where an engine error becomes an exception.
pub(crate) fn to_exception(error: &EngineError) -> PyErr {
    let arguments = (error.code(), error.to_string());
    if error.concerns_data_directory() {
        DataDirectoryError::new_err(arguments)
    } else {
        CoreError::new_err(arguments)
    }
}

/// A whole request was refused.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct Refusal {
    refusal: penstock_model::Refusal,
}

impl Refusal {
    pub(crate) fn new(refusal: penstock_model::Refusal) -> Self {
        Self { refusal }
    }
}

/// How long a client should wait before it sends again, in whole seconds. SDKs give a 503 few
/// tries within seconds (`sdk-wire.md` §1b), so short for what passes by itself, longer for what
/// needs space or an operator.
fn retry_after_seconds(code: Code) -> u8 {
    if code.scope() != CodeScope::Overload {
        return 0;
    }
    match code {
        Code::DiskFull | Code::WalFull => 10,
        Code::StorageFailed | Code::ShuttingDown => 2,
        _ => 1,
    }
}

#[pymethods]
impl Refusal {
    #[getter]
    fn code(&self) -> &'static str {
        self.refusal.code.as_str()
    }

    #[getter]
    fn text(&self) -> String {
        if self.refusal.detail.is_empty() {
            self.refusal.code.public_text().to_owned()
        } else {
            self.refusal.to_string()
        }
    }

    #[getter]
    fn retry_after_seconds(&self) -> u8 {
        retry_after_seconds(self.refusal.code)
    }
}

/// The answer of capture v1, event by event.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct Results {
    body: Py<PyBytes>,
    retry: Option<Code>,
}

impl Results {
    pub(crate) fn new(py: Python<'_>, text: &[u8], retry: Option<Code>) -> Self {
        let body = PyBytes::new(py, text).unbind();
        Self { body, retry }
    }
}

#[pymethods]
impl Results {
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.clone_ref(py)
    }

    #[getter]
    fn retry_after_seconds(&self) -> u8 {
        self.retry.map_or(0, retry_after_seconds)
    }
}

/// Outcome of one HTTP request whose events are stored at the ack level that was asked for.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct SubmitResult {
    summary: SubmitSummary,
    answer: Option<Py<PyBytes>>,
}

impl SubmitResult {
    pub(crate) fn new(py: Python<'_>, mut summary: SubmitSummary) -> Self {
        let answer = summary.answer.take();
        let answer = answer.map(|answer| PyBytes::new(py, &answer).unbind());
        Self { summary, answer }
    }
}

#[pymethods]
impl SubmitResult {
    #[getter]
    fn accepted(&self) -> u32 {
        self.summary.accepted
    }

    #[getter]
    fn duplicates(&self) -> u32 {
        self.summary.duplicates
    }

    #[getter]
    fn rejected(&self) -> u32 {
        self.summary.rejected
    }

    #[getter]
    fn log_position(&self) -> u64 {
        self.summary.log_position
    }

    #[getter]
    fn first_rejection(&self) -> Option<(u32, &'static str, &'static str)> {
        let (index, code) = self.summary.first_rejection?;
        Some((index, code.as_str(), code.public_text()))
    }

    #[getter]
    fn answer(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.answer.as_ref().map(|answer| answer.clone_ref(py))
    }
}
