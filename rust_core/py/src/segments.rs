//! Cuts and their files as Python objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_engine::TableKind;
use pyo3::prelude::*;

/// The table of a name.
pub(crate) fn table_kind(name: &str) -> PyResult<TableKind> {
    TableKind::named(name)
        .ok_or_else(|| pyo3::exceptions::PyValueError::new_err(format!("no table {name}")))
}

/// What there is of each table, by its name; a table without any has an empty list.
pub(crate) fn by_table_name<T>(
    items: impl Iterator<Item = (TableKind, T)>,
) -> BTreeMap<&'static str, Vec<T>> {
    let mut named: BTreeMap<_, _> = TableKind::ALL
        .into_iter()
        .map(|table| (table.name(), Vec::new()))
        .collect();
    for (table, item) in items {
        named.entry(table.name()).or_default().push(item);
    }
    named
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
        let files = self.cut.files.iter().cloned();
        by_table_name(files.map(|file| (file.table, SegmentFile { file })))
    }

    #[getter]
    fn releases(&self) -> bool {
        self.cut.releases
    }
}
