//! Rows of the table `events`, growing until they are a batch.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray};
use penstock_model::{BatchView, ClientIp, Event, Uuid};

use crate::columns::{
    LogPlaces, PartitionColumns, RepeatedText, SentTimes, VariedText, WarningLists, times,
};
use crate::cut::RecordTexts;

/// Bytes of a row besides its texts: 14 offsets or keys of 4 bytes, 5 numbers of 4 or 8, nulls.
const FIXED_ROW_BYTES: usize = 128;

/// Text bytes to make room for at once, as the batch before had them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    distinct_id: usize,
    client_timestamp: usize,
    properties: usize,
    session_id: usize,
    window_id: usize,
    elements_chain: usize,
}

/// Columns of `events` in the table's order.
#[derive(Debug)]
pub(crate) struct EventRows {
    partition: PartitionColumns,
    uuid: VariedText,
    event: RepeatedText,
    distinct_id: VariedText,
    timestamp: Vec<i64>,
    received_at: Vec<i64>,
    sent_at: SentTimes,
    client_timestamp: VariedText,
    properties: VariedText,
    person_mode: RepeatedText,
    session_id: VariedText,
    window_id: VariedText,
    lib: RepeatedText,
    lib_version: RepeatedText,
    elements_chain: VariedText,
    ip: RepeatedText,
    token: RepeatedText,
    historical: Vec<bool>,
    warnings: WarningLists,
    places: LogPlaces,
}

impl EventRows {
    pub(crate) fn new(flat: bool, room: Room) -> Self {
        let rows = room.rows;
        let repeated = || RepeatedText::with_capacity(rows);
        Self {
            partition: PartitionColumns::with_capacity(flat, rows),
            uuid: VariedText::with_capacity(rows, rows * Uuid::TEXT_BYTES),
            event: repeated(),
            distinct_id: VariedText::with_capacity(rows, room.distinct_id),
            timestamp: Vec::with_capacity(rows),
            received_at: Vec::with_capacity(rows),
            sent_at: SentTimes::with_capacity(rows),
            client_timestamp: VariedText::with_capacity(rows, room.client_timestamp),
            properties: VariedText::with_capacity(rows, room.properties),
            person_mode: repeated(),
            session_id: VariedText::with_capacity(rows, room.session_id),
            window_id: VariedText::with_capacity(rows, room.window_id),
            lib: repeated(),
            lib_version: repeated(),
            elements_chain: VariedText::with_capacity(rows, room.elements_chain),
            ip: repeated(),
            token: repeated(),
            historical: Vec::with_capacity(rows),
            warnings: WarningLists::with_capacity(rows),
            places: LogPlaces::with_capacity(rows),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.timestamp.len()
    }

    /// What a batch like this one has to make room for.
    pub(crate) fn room(&self) -> Room {
        Room {
            rows: self.rows(),
            distinct_id: self.distinct_id.text_bytes(),
            client_timestamp: self.client_timestamp.text_bytes(),
            properties: self.properties.text_bytes(),
            session_id: self.session_id.text_bytes(),
            window_id: self.window_id.text_bytes(),
            elements_chain: self.elements_chain.text_bytes(),
        }
    }

    /// Adds an accepted event; returns the bytes that are newly held.
    pub(crate) fn push(
        &mut self,
        record: &RecordTexts<'_>,
        view: BatchView<'_>,
        event: &Event,
        index: i32,
    ) -> usize {
        let mut bytes = FIXED_ROW_BYTES;
        let meta = record.meta;
        bytes += self.partition.push(meta.project, event.timestamp_us);
        let text = |text| view.get(text);
        let option = |text: Option<_>| text.map(|text| view.get(text));
        bytes += self.uuid.push_uuid(event.uuid);
        bytes += self.event.push(text(event.event));
        bytes += self.distinct_id.push(text(event.distinct_id));
        self.timestamp.push(event.timestamp_us);
        self.received_at.push(meta.received_at_us);
        self.sent_at.push(meta.batch.sent_at_us);
        bytes += self
            .client_timestamp
            .push_option(option(event.client_timestamp));
        bytes += self.properties.push(text(event.properties));
        bytes += self.person_mode.push(if event.propertyless {
            "propertyless"
        } else {
            "full"
        });
        bytes += self.session_id.push_option(option(event.session_id));
        bytes += self.window_id.push_option(option(event.window_id));
        bytes += self.lib.push_option(option(event.lib));
        bytes += self.lib_version.push_option(option(event.lib_version));
        bytes += self
            .elements_chain
            .push_option(option(event.elements_chain));
        bytes += self.ip.push_option(match event.ip {
            ClientIp::Given(ip) => Some(text(ip)),
            ClientIp::Withheld => None,
            ClientIp::Unsaid => record.client_address.as_deref(),
        });
        bytes += self.token.push(record.token);
        self.historical.push(meta.batch.historical);
        bytes += self.warnings.push(event.warnings);
        bytes += self.places.push(record, index);
        bytes
    }

    /// The columns of a batch.
    pub(crate) fn finish(self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(23);
        self.partition.finish_into(&mut columns);
        columns.extend([
            self.uuid.finish(),
            self.event.finish(),
            self.distinct_id.finish(),
            times(self.timestamp),
            times(self.received_at),
            self.sent_at.finish(),
            self.client_timestamp.finish(),
            self.properties.finish(),
            self.person_mode.finish(),
            self.session_id.finish(),
            self.window_id.finish(),
            self.lib.finish(),
            self.lib_version.finish(),
            self.elements_chain.finish(),
            self.ip.finish(),
            self.token.finish(),
            Arc::new(BooleanArray::from(self.historical)),
            self.warnings.finish(),
        ]);
        self.places.finish_into(&mut columns);
        columns
    }
}
