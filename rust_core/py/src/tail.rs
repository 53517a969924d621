//! Reading the log of a live or stopped server, for queries.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use penstock_model::{LaneId, Position};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::outcome::to_exception;
use crate::segments::by_table_name;

/// What the log holds above the tables, as Parquet files in a folder of the caller's.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct TailRead {
    read: penstock_engine::TailRead,
}

#[pymethods]
impl TailRead {
    #[getter]
    fn files(&self) -> BTreeMap<&'static str, Vec<String>> {
        let files = self.read.files.iter();
        by_table_name(files.map(|(table, path)| (*table, path.display().to_string())))
    }

    #[getter]
    fn spans(&self) -> Vec<(String, u64, u64)> {
        let spans = self.read.spans.iter();
        spans
            .map(|(lane, first, last)| (lane.to_string(), first.get(), last.get()))
            .collect()
    }

    #[getter]
    fn damage(&self) -> Vec<String> {
        self.read.damage.clone()
    }
}

/// Read the log of a live or stopped server, without a lock, into Parquet files.
#[pyfunction]
pub(crate) fn read_tail(
    py: Python<'_>,
    data_directory: &str,
    output_directory: &str,
    above: HashMap<String, u64>,
    memory_bytes: usize,
) -> PyResult<TailRead> {
    let mut lanes = HashMap::new();
    for (lane, position) in above {
        let lane =
            LaneId::parse(&lane).ok_or_else(|| PyValueError::new_err(format!("no lane {lane}")))?;
        lanes.insert(lane, Position::new(position));
    }
    let read = py.detach(|| {
        penstock_engine::read_tail(
            Path::new(data_directory),
            Path::new(output_directory),
            &lanes,
            memory_bytes,
        )
    });
    Ok(TailRead {
        read: read.map_err(|error| to_exception(&error))?,
    })
}
