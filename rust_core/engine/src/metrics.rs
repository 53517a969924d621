//! Counters, and their text for Prometheus.
//!
//! Counted per request or per batch, never per event. Labels come from closed sets only: the code
//! table and the endpoints.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use penstock_model::{Batch, Code, Endpoint, Outcome};
use penstock_segment::{ByTable, TableKind};

use crate::ledger::Counts;

/// A number that only goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) events_accepted: Counter,
    pub(crate) events_duplicate: Counter,
    /// By code number; event scope.
    events_rejected: Vec<Counter>,
    /// By code number; request and overload scopes.
    requests_refused: Vec<Counter>,
    /// In the order of [`Endpoint::ALL`].
    requests_decoded: Vec<Counter>,
    pub(crate) request_bytes: Counter,
    pub(crate) refused_only_dropped: Counter,
    /// Events of these.
    pub(crate) refused_unstored: Counter,
    pub(crate) commit_groups: Counter,
    pub(crate) records_synced: Counter,
    pub(crate) log_failures: Counter,
    pub(crate) log_reopened: Counter,
    pub(crate) files_sealed: Counter,
    pub(crate) rows_built: ByTable<Counter>,
    pub(crate) records_read_back: Counter,
    pub(crate) records_quarantined: Counter,
    pub(crate) cuts: Counter,
    pub(crate) cuts_abandoned: Counter,
    pub(crate) segment_bytes: Counter,
    pub(crate) segment: SegmentGauges,
}

/// The builder as the background last saw it.
#[derive(Debug, Default)]
pub(crate) struct SegmentGauges {
    pub(crate) open_partitions: AtomicU64,
    pub(crate) buffered_bytes: AtomicU64,
    pub(crate) closed_early: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let per_code = || Code::ALL.iter().map(|_| Counter::default()).collect();
        Self {
            events_accepted: Counter::default(),
            events_duplicate: Counter::default(),
            events_rejected: per_code(),
            requests_refused: per_code(),
            requests_decoded: Endpoint::ALL.iter().map(|_| Counter::default()).collect(),
            request_bytes: Counter::default(),
            refused_only_dropped: Counter::default(),
            refused_unstored: Counter::default(),
            commit_groups: Counter::default(),
            records_synced: Counter::default(),
            log_failures: Counter::default(),
            log_reopened: Counter::default(),
            files_sealed: Counter::default(),
            rows_built: ByTable::default(),
            records_read_back: Counter::default(),
            records_quarantined: Counter::default(),
            cuts: Counter::default(),
            cuts_abandoned: Counter::default(),
            segment_bytes: Counter::default(),
            segment: SegmentGauges::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn request_decoded(&self, endpoint: Endpoint, bytes: u64) {
        if let Some(index) = Endpoint::ALL.iter().position(|other| *other == endpoint) {
            self.requests_decoded[index].add(1);
        }
        self.request_bytes.add(bytes);
    }

    pub(crate) fn requests_refused(&self, code: Code) {
        self.requests_refused[usize::from(code.number())].add(1);
    }

    /// Counts the outcomes of a batch at its append, and gives them: a group that fails later is
    /// counted apart.
    pub(crate) fn outcomes(&self, batch: &Batch) -> Counts {
        let mut counts = Counts::default();
        for event in &batch.events {
            match event.outcome {
                Outcome::Accepted => counts.accepted += 1,
                Outcome::Duplicate => counts.duplicates += 1,
                Outcome::Rejected(code) => {
                    counts.rejected += 1;
                    self.events_rejected[usize::from(code.number())].add(1);
                }
            }
        }
        self.events_accepted.add(counts.accepted);
        self.events_duplicate.add(counts.duplicates);
        counts
    }

    /// Writes all counters as Prometheus text.
    pub(crate) fn write_text(&self, out: &mut String) {
        let labelled = |out: &mut String, name, help, label, rows: &[(&str, u64)]| {
            header(out, name, help, "counter");
            for (value, count) in rows {
                line(out, name, &[(label, value)], *count);
            }
        };
        let by_code = |counters: &[Counter], scopes: &[penstock_model::CodeScope]| {
            Code::ALL
                .iter()
                .filter(|code| scopes.contains(&code.scope()))
                .map(|code| (code.as_str(), counters[usize::from(code.number())].get()))
                .collect::<Vec<_>>()
        };
        header(
            out,
            "penstock_engine_events_total",
            "Events by outcome.",
            "counter",
        );
        let rejected: u64 = self.events_rejected.iter().map(Counter::get).sum();
        for (outcome, count) in [
            ("accepted", self.events_accepted.get()),
            ("duplicate", self.events_duplicate.get()),
            ("rejected", rejected),
        ] {
            line(
                out,
                "penstock_engine_events_total",
                &[("outcome", outcome)],
                count,
            );
        }
        labelled(
            out,
            "penstock_engine_events_rejected_total",
            "Refused events by code.",
            "code",
            &by_code(&self.events_rejected, &[penstock_model::CodeScope::Event]),
        );
        labelled(
            out,
            "penstock_engine_requests_refused_total",
            "Refused requests by code.",
            "code",
            &by_code(
                &self.requests_refused,
                &[
                    penstock_model::CodeScope::Request,
                    penstock_model::CodeScope::Overload,
                ],
            ),
        );
        let endpoints: Vec<_> = Endpoint::ALL
            .iter()
            .zip(&self.requests_decoded)
            .map(|(endpoint, counter)| (endpoint.name(), counter.get()))
            .collect();
        labelled(
            out,
            "penstock_engine_requests_decoded_total",
            "Requests with a readable body and an admitted token, by endpoint.",
            "endpoint",
            &endpoints,
        );
        for (name, help, counter) in [
            (
                "penstock_engine_request_bytes_total",
                "Body bytes decoded.",
                &self.request_bytes,
            ),
            (
                "penstock_engine_refused_only_dropped_total",
                "Requests of nothing but refused events that were counted and not stored.",
                &self.refused_only_dropped,
            ),
            (
                "penstock_ledger_refused_unstored_events_total",
                "Events of these: they are in neither log nor ledger.",
                &self.refused_unstored,
            ),
            (
                "penstock_wal_commit_groups_total",
                "Synced commit groups.",
                &self.commit_groups,
            ),
            (
                "penstock_wal_records_total",
                "Synced records.",
                &self.records_synced,
            ),
            (
                "penstock_wal_failures_total",
                "Commit groups that failed.",
                &self.log_failures,
            ),
            (
                "penstock_wal_reopened_total",
                "Recoveries after a failure.",
                &self.log_reopened,
            ),
            (
                "penstock_wal_sealed_files_total",
                "Closed log files that the next start need not read.",
                &self.files_sealed,
            ),
            (
                "penstock_segment_events_rows_total",
                "Rows built for the events table.",
                &self.rows_built[TableKind::Events],
            ),
            (
                "penstock_segment_rejected_rows_total",
                "Rows built for the rejected table.",
                &self.rows_built[TableKind::Rejected],
            ),
            (
                "penstock_segment_recordings_rows_total",
                "Rows built for the recordings table.",
                &self.rows_built[TableKind::Recordings],
            ),
            (
                "penstock_engine_records_read_back_total",
                "Records that the background read from the log.",
                &self.records_read_back,
            ),
            (
                "penstock_engine_records_quarantined_total",
                "Records that could not be stored and were set aside.",
                &self.records_quarantined,
            ),
            (
                "penstock_engine_cuts_total",
                "Cuts handed to the tables.",
                &self.cuts,
            ),
            (
                "penstock_engine_cuts_abandoned_total",
                "Cuts given up and built again after a storage error.",
                &self.cuts_abandoned,
            ),
            (
                "penstock_segment_bytes_total",
                "Bytes of finished segments.",
                &self.segment_bytes,
            ),
        ] {
            header(out, name, help, "counter");
            line(out, name, &[], counter.get());
        }
        let segment = &self.segment;
        for (name, help, kind, value) in [
            (
                "penstock_segment_closed_early_total",
                "Files closed before their cut, for a budget.",
                "counter",
                &segment.closed_early,
            ),
            (
                "penstock_segment_open_partitions",
                "Partitions that rows are being added to.",
                "gauge",
                &segment.open_partitions,
            ),
            (
                "penstock_segment_buffered_bytes",
                "Memory of these.",
                "gauge",
                &segment.buffered_bytes,
            ),
        ] {
            header(out, name, help, kind);
            line(out, name, &[], value.load(Ordering::Relaxed));
        }
    }
}

pub(crate) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String can't fail.
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").ok();
}

pub(crate) fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        for (index, (label, text)) in labels.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}{label}=\"{text}\"").ok();
        }
        out.push('}');
    }
    writeln!(out, " {value}").ok();
}

/// A gauge with its header.
pub(crate) fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, help, "gauge");
    line(out, name, &[], value);
}
