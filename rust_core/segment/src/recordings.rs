//! Rows of the table `recordings`, growing until they are a batch.

use arrow_array::ArrayRef;
use penstock_model::{BatchView, Event};

use crate::columns::{
    LogPlaces, PartitionColumns, RepeatedText, SentTimes, VariedText, WarningLists, times,
};
use crate::cut::RecordTexts;

/// Bytes of a row besides its texts: 13 offsets or keys of 4 bytes, 5 numbers of 4 or 8, nulls.
const FIXED_ROW_BYTES: usize = 128;

/// The source of a snapshot that names none (`posthog-protocol.md` §3.9).
const DEFAULT_SOURCE: &str = "web";

/// The library of a snapshot that no one names, likewise: the only one that may be silent.
const DEFAULT_LIB: &str = "web";

/// Columns of `recordings` in the table's order.
#[derive(Debug)]
pub(crate) struct RecordingRows {
    partition: PartitionColumns,
    session_id: RepeatedText,
    window_id: RepeatedText,
    uuid: VariedText,
    event: RepeatedText,
    distinct_id: RepeatedText,
    timestamp: Vec<i64>,
    received_at: Vec<i64>,
    sent_at: SentTimes,
    client_timestamp: VariedText,
    snapshot_source: RepeatedText,
    lib: RepeatedText,
    lib_version: RepeatedText,
    properties: VariedText,
    token: RepeatedText,
    warnings: WarningLists,
    places: LogPlaces,
}

impl RecordingRows {
    /// Makes no room ahead: a batch is a few rows of many bytes.
    pub(crate) fn new(flat: bool) -> Self {
        let repeated = || RepeatedText::with_capacity(0);
        let varied = || VariedText::with_capacity(0, 0);
        Self {
            partition: PartitionColumns::with_capacity(flat, 0),
            session_id: repeated(),
            window_id: repeated(),
            uuid: varied(),
            event: repeated(),
            distinct_id: repeated(),
            timestamp: Vec::new(),
            received_at: Vec::new(),
            sent_at: SentTimes::with_capacity(0),
            client_timestamp: varied(),
            snapshot_source: repeated(),
            lib: repeated(),
            lib_version: repeated(),
            properties: varied(),
            token: repeated(),
            warnings: WarningLists::with_capacity(0),
            places: LogPlaces::with_capacity(0),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.timestamp.len()
    }

    /// Adds an accepted snapshot; returns the bytes that are newly held.
    pub(crate) fn push(
        &mut self,
        record: &RecordTexts<'_>,
        view: BatchView<'_>,
        event: &Event,
        index: i32,
    ) -> usize {
        let mut bytes = FIXED_ROW_BYTES;
        let meta = record.meta;
        let text = |text| view.get(text);
        let option = |text: Option<_>| text.map(|text| view.get(text));
        // Decoding accepts no snapshot without one.
        let session_id = option(event.session_id).unwrap_or_default();
        bytes += self.partition.push(meta.project, event.timestamp_us);
        bytes += self.session_id.push(session_id);
        let window_id = option(event.window_id);
        bytes += self.window_id.push(window_id.unwrap_or(session_id));
        bytes += self.uuid.push_uuid(event.uuid);
        bytes += self.event.push(text(event.event));
        bytes += self.distinct_id.push(text(event.distinct_id));
        self.timestamp.push(event.timestamp_us);
        self.received_at.push(meta.received_at_us);
        self.sent_at.push(meta.batch.sent_at_us);
        bytes += self
            .client_timestamp
            .push_option(option(event.client_timestamp));
        let source = option(event.snapshot_source);
        bytes += self.snapshot_source.push(source.unwrap_or(DEFAULT_SOURCE));
        bytes += self.lib.push(option(event.lib).unwrap_or(DEFAULT_LIB));
        bytes += self.lib_version.push_option(option(event.lib_version));
        bytes += self.properties.push(text(event.properties));
        bytes += self.token.push(record.token);
        bytes += self.warnings.push(event.warnings);
        bytes += self.places.push(record, index);
        bytes
    }

    /// The columns of a batch.
    pub(crate) fn finish(self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(20);
        self.partition.finish_into(&mut columns);
        columns.extend([
            self.session_id.finish(),
            self.window_id.finish(),
            self.uuid.finish(),
            self.event.finish(),
            self.distinct_id.finish(),
            times(self.timestamp),
            times(self.received_at),
            self.sent_at.finish(),
            self.client_timestamp.finish(),
            self.snapshot_source.finish(),
            self.lib.finish(),
            self.lib_version.finish(),
            self.properties.finish(),
            self.token.finish(),
            self.warnings.finish(),
        ]);
        self.places.finish_into(&mut columns);
        columns
    }
}
