//! Rows of the table `rejected`, growing until they are a batch.

use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array};
use penstock_model::{BatchView, Code, Event};

use crate::calendar::Day;
use crate::columns::{LogPlaces, RepeatedText, VariedText, times};
use crate::cut::RecordTexts;

/// Bytes of a row besides its texts: 10 offsets or keys of 4 bytes, 4 numbers of 4 or 8, nulls.
const FIXED_ROW_BYTES: usize = 80;

/// Columns of `rejected` in the table's order.
#[derive(Debug)]
pub(crate) struct RejectedRows {
    /// Only where the files hold it.
    date: Option<Vec<i32>>,
    received_at: Vec<i64>,
    project: RepeatedText,
    token: RepeatedText,
    endpoint: RepeatedText,
    reason: RepeatedText,
    detail: RepeatedText,
    event: RepeatedText,
    distinct_id: VariedText,
    uuid: VariedText,
    raw: VariedText,
    places: LogPlaces,
}

impl RejectedRows {
    pub(crate) fn new(flat: bool) -> Self {
        let repeated = || RepeatedText::with_capacity(0);
        let varied = || VariedText::with_capacity(0, 0);
        Self {
            date: flat.then(Vec::new),
            received_at: Vec::new(),
            project: repeated(),
            token: repeated(),
            endpoint: repeated(),
            reason: repeated(),
            detail: repeated(),
            event: repeated(),
            distinct_id: varied(),
            uuid: varied(),
            raw: varied(),
            places: LogPlaces::with_capacity(0),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.received_at.len()
    }

    /// Adds a refused event; returns the bytes that are newly held.
    pub(crate) fn push(
        &mut self,
        record: &RecordTexts<'_>,
        view: BatchView<'_>,
        event: &Event,
        code: Code,
        index: i32,
        max_raw_bytes: usize,
    ) -> usize {
        let meta = record.meta;
        let mut bytes = FIXED_ROW_BYTES;
        if let Some(date) = &mut self.date {
            date.push(Day::of_micros(meta.received_at_us).number());
        }
        // An empty text is one that could not be read.
        let option = |text| Some(view.get(text)).filter(|text| !text.is_empty());
        let uuid = event.uuid_given.then(|| event.uuid.to_string());
        let raw = view.get(event.raw);
        let (raw, _) = raw.split_at(raw.floor_char_boundary(max_raw_bytes));
        self.received_at.push(meta.received_at_us);
        bytes += self.project.push(meta.project);
        bytes += self.token.push(record.token);
        bytes += self.endpoint.push(meta.endpoint.name());
        bytes += self.reason.push(code.as_str());
        bytes += self.detail.push(code.public_text());
        bytes += self.event.push_option(option(event.event));
        bytes += self.distinct_id.push_option(option(event.distinct_id));
        bytes += self.uuid.push_option(uuid.as_deref());
        bytes += self.raw.push(raw);
        bytes += self.places.push(record, index);
        bytes
    }

    /// The columns of a batch.
    pub(crate) fn finish(self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(14);
        if let Some(date) = self.date {
            columns.push(Arc::new(Date32Array::from(date)));
        }
        columns.extend([
            times(self.received_at),
            self.project.finish(),
            self.token.finish(),
            self.endpoint.finish(),
            self.reason.finish(),
            self.detail.finish(),
            self.event.finish(),
            self.distinct_id.finish(),
            self.uuid.finish(),
            self.raw.finish(),
        ]);
        self.places.finish_into(&mut columns);
        columns
    }
}
