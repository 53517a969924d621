//! Cuts and their files as Python objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_engine::TableKind;
use pyo3::prelude::*;

/// The name of a table, as the data directory has it.
pub(crate) const fn table_name(table: TableKind) -> &'static str {
    match table {
        TableKind::Events => "events",
        TableKind::Rejected => "rejected",
    }
}

/// The table of a name.
pub(crate) fn table_kind(name: &str) -> PyResult<TableKind> {
    match name {
        "events" => Ok(TableKind::Events),
        "rejected" => Ok(TableKind::Rejected),
        other => Err(pyo3::exceptions::PyValueError::new_err(format!(
            "no table {other}"
        ))),
    }
}

/// One Parquet file of a cut.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct SegmentFile {
    file: penstock_engine::SegmentFile,
}

#[pymethods]
impl SegmentFile {
    #[getter]
    fn path(&self) -> &str {
        &self.file.path
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes
    }

    #[getter]
    fn rows(&self) -> u64 {
        self.file.rows
    }

    #[getter]
    fn partition_values(&self) -> BTreeMap<String, String> {
        self.file.partition.iter().cloned().collect()
    }

    #[getter]
    fn first_position(&self) -> u64 {
        self.file.first_position.get()
    }

    #[getter]
    fn last_position(&self) -> u64 {
        self.file.last_position.get()
    }

    #[getter]
    fn stats_json(&self) -> &str {
        &self.file.stats_json
    }
}

/// All rows at or below one position of the log that are not yet in the tables.
#[pyclass(frozen, module = "penstock._core")]
pub(crate) struct Cut {
    cut: Arc<penstock_engine::Cut>,
}

impl Cut {
    pub(crate) fn new(cut: Arc<penstock_engine::Cut>) -> Self {
        Self { cut }
    }
}

#[pymethods]
impl Cut {
    #[getter]
    fn position(&self) -> u64 {
        self.cut.position.get()
    }

    #[getter]
    fn lanes(&self) -> Vec<(String, u64)> {
        let lanes = self.cut.lanes.iter();
        lanes
            .map(|lane| (lane.lane.to_string(), lane.position.get()))
            .collect()
    }

    #[getter]
    fn files(&self) -> BTreeMap<&'static str, Vec<SegmentFile>> {
        let mut files = BTreeMap::from([("events", Vec::new()), ("rejected", Vec::new())]);
        for file in &self.cut.files {
            files
                .entry(table_name(file.table))
                .or_default()
                .push(SegmentFile { file: file.clone() });
        }
        files
    }

    #[getter]
    fn releases(&self) -> bool {
        self.cut.releases
    }
}
