//! The options of an engine, from the dictionary that `penstock.config.engine_options` makes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use penstock_engine::{EngineOptions, ProjectOptions};
use penstock_model::{AckLevel, DecodeLimits};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyMapping;

/// Takes options by name and notices what nobody took.
struct Reader<'a, 'py> {
    options: &'a Bound<'py, PyMapping>,
    taken: usize,
}

impl<'py> Reader<'_, 'py> {
    fn any(&mut self, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.taken += 1;
        self.options
            .get_item(name)
            .map_err(|_| PyKeyError::new_err(format!("option {name} is missing")))
    }

    fn number<N>(&mut self, name: &str) -> PyResult<N>
    where
        N: TryFrom<u64>,
    {
        let value: u64 = self.any(name)?.extract()?;
        N::try_from(value)
            .map_err(|_| PyValueError::new_err(format!("option {name} is out of range")))
    }

    fn millis(&mut self, name: &str) -> PyResult<Duration> {
        Ok(Duration::from_millis(self.number(name)?))
    }

    fn text(&mut self, name: &str) -> PyResult<String> {
        self.any(name)?.extract()
    }
}

fn ack_level(name: &str) -> PyResult<AckLevel> {
    match name {
        "memory" => Ok(AckLevel::Memory),
        "disk" => Ok(AckLevel::Disk),
        "table" => Ok(AckLevel::Table),
        other => Err(PyValueError::new_err(format!("no ack level {other}"))),
    }
}

fn discards_client_ip(choice: &str) -> PyResult<bool> {
    match choice {
        "store" => Ok(false),
        "discard" => Ok(true),
        other => Err(PyValueError::new_err(format!("no client_ip {other}"))),
    }
}

/// Reads named projects from the JSON that `penstock.config.projects_json` makes.
pub(crate) fn projects(py: Python<'_>, json: &str) -> PyResult<Vec<ProjectOptions>> {
    let parsed = py.import("json")?.call_method1("loads", (json,))?;
    let by_name: HashMap<String, Bound<'_, PyAny>> = parsed.extract()?;
    let mut projects = Vec::new();
    for (name, project) in by_name {
        let ack: Option<String> = project.get_item("ack")?.extract()?;
        let client_ip: Option<String> = project.get_item("client_ip")?.extract()?;
        projects.push(ProjectOptions {
            name,
            tokens: project.get_item("tokens")?.extract()?,
            ack: ack.as_deref().map(ack_level).transpose()?,
            discard_client_ip: client_ip.as_deref().map(discards_client_ip).transpose()?,
        });
    }
    Ok(projects)
}

/// Reads all options; a missing, superfluous or misfit one is an error that names it.
pub(crate) fn read(options: &Bound<'_, PyMapping>) -> PyResult<EngineOptions> {
    let py = options.py();
    let mut reader = Reader { options, taken: 0 };
    let allowed_ack = reader.text("allowed_ack")?;
    let read = EngineOptions {
        data_directory: PathBuf::from(reader.text("data_dir")?),
        flush_interval: reader.millis("flush_interval_ms")?,
        dedup_window: reader.millis("dedup_window_ms")?,
        dedup_memory_bytes: reader.number("dedup_memory_bytes")?,
        dedup_disk_bytes: reader.number("dedup_disk_bytes")?,
        limits: DecodeLimits {
            max_decompressed_bytes: reader.number("max_decompressed_bytes")?,
            max_event_bytes: reader.number("max_event_bytes")?,
            max_events_per_request: reader.number("max_events_per_request")?,
            max_json_depth: reader.number("max_json_depth")?,
        },
        max_recording_bytes: reader.number("max_recording_bytes")?,
        max_in_flight_bytes: reader.number("max_in_flight_bytes")?,
        max_wal_bytes: reader.number("max_wal_bytes")?,
        wal_file_bytes: reader.number("wal_file_bytes")?,
        max_group_bytes: reader.number("max_group_bytes")?,
        batch_cache_bytes: reader.number("batch_cache_bytes")?,
        segment: penstock_engine::segment_options(
            reader.number("segment_memory_bytes")?,
            reader.number("max_open_partitions")?,
        ),
        decode_threads: reader.number("decode_threads")?,
        max_unnamed_projects: reader.number("max_unnamed_projects")?,
        disk_reserve_bytes: reader.number("disk_reserve_bytes")?,
        ack: ack_level(&reader.text("ack")?)?,
        allowed_ack: allowed_ack
            .split(',')
            .filter(|name| !name.is_empty())
            .map(ack_level)
            .collect::<PyResult<_>>()?,
        table_ack_timeout: reader.millis("table_ack_timeout_ms")?,
        discard_client_ip: discards_client_ip(&reader.text("client_ip")?)?,
        projects: projects(py, &reader.text("projects_json")?)?,
    };
    // The fronts enforce this one themselves, before a body is a body.
    let max_request_bytes: u64 = reader.number("max_request_bytes")?;
    if max_request_bytes > u64::from(u32::MAX) {
        return Err(PyValueError::new_err(
            "option max_request_bytes is out of range",
        ));
    }
    if reader.taken != options.len()? {
        return Err(PyValueError::new_err(
            "there are options that the core does not know",
        ));
    }
    Ok(read)
}
