//! Columns that grow row by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Date32Array, DictionaryArray, Int32Array, Int64Array, TimestampMicrosecondArray,
};
use penstock_model::{Uuid, Warning, Warnings};

use crate::calendar::{Day, in_range};
use crate::cut::RecordTexts;
use crate::schema::text_element;

/// Text with few distinct values, as keys into a dictionary.
///
/// Saves the copies, and hashing every value again at the encoder: 0.67 → 1.1 M rows/s of build
/// (`measured.md` §4). A value equal to the one before, the usual case, is not even hashed. Others
/// are hashed with the standard library's keyed hash: they come from strangers.
#[derive(Debug)]
pub(crate) struct RepeatedText {
    keys: Int32Builder,
    values: StringBuilder,
    index: HashMap<Box<str>, i32>,
    last: String,
    last_key: Option<i32>,
}

impl RepeatedText {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            keys: Int32Builder::with_capacity(rows),
            values: StringBuilder::with_capacity(0, 0),
            index: HashMap::new(),
            last: String::new(),
            last_key: None,
        }
    }

    /// Adds a value; returns the bytes of text that are newly held.
    pub(crate) fn push(&mut self, value: &str) -> usize {
        if let Some(key) = self.last_key
            && self.last == value
        {
            self.keys.append_value(key);
            return 0;
        }
        let (key, added_bytes) = match self.index.get(value) {
            Some(key) => (*key, 0),
            None => self.add(value),
        };
        self.last.clear();
        self.last.push_str(value);
        self.last_key = Some(key);
        self.keys.append_value(key);
        added_bytes
    }

    /// As [`Self::push`], or a null.
    pub(crate) fn push_option(&mut self, value: Option<&str>) -> usize {
        if let Some(value) = value {
            return self.push(value);
        }
        self.keys.append_null();
        0
    }

    #[expect(
        clippy::expect_used,
        reason = "rows of a batch are bounded far below 2^31"
    )]
    fn add(&mut self, value: &str) -> (i32, usize) {
        let key = i32::try_from(self.index.len()).expect("fewer values than rows of a batch");
        self.values.append_value(value);
        self.index.insert(value.into(), key);
        // Twice the text, and what a table's entry takes.
        (key, 2 * value.len() + 64)
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        let keys = self.keys.finish();
        let values = Arc::new(self.values.finish());
        Arc::new(DictionaryArray::<Int32Type>::new(keys, values))
    }
}

/// Text that hardly repeats. Returns from pushes are the bytes of text newly held.
#[derive(Debug)]
pub(crate) struct VariedText(StringBuilder);

impl VariedText {
    pub(crate) fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self(StringBuilder::with_capacity(rows, bytes))
    }

    pub(crate) fn push(&mut self, value: &str) -> usize {
        self.0.append_value(value);
        value.len()
    }

    pub(crate) fn push_option(&mut self, value: Option<&str>) -> usize {
        self.0.append_option(value);
        value.map_or(0, str::len)
    }

    pub(crate) fn push_uuid(&mut self, uuid: Uuid) -> usize {
        let mut text = [0; Uuid::TEXT_BYTES];
        uuid.write_text(&mut text);
        // Hexadecimal digits and hyphens: never empty in fact.
        self.push(std::str::from_utf8(&text).unwrap_or_default())
    }

    pub(crate) fn text_bytes(&self) -> usize {
        self.0.values_slice().len()
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// `project` and `date` of rows by event time, where the files hold them. Returns from pushes are
/// the bytes newly held.
#[derive(Debug)]
pub(crate) struct PartitionColumns(Option<(RepeatedText, Vec<i32>)>);

impl PartitionColumns {
    pub(crate) fn with_capacity(flat: bool, rows: usize) -> Self {
        Self(flat.then(|| (RepeatedText::with_capacity(rows), Vec::with_capacity(rows))))
    }

    pub(crate) fn push(&mut self, project: &str, timestamp_us: i64) -> usize {
        let Some((projects, dates)) = &mut self.0 else {
            return 0;
        };
        dates.push(Day::of_micros(timestamp_us).number());
        projects.push(project)
    }

    pub(crate) fn finish_into(self, columns: &mut Vec<ArrayRef>) {
        if let Some((projects, dates)) = self.0 {
            columns.push(projects.finish());
            columns.push(Arc::new(Date32Array::from(dates)));
        }
    }
}

/// The client's clock at sending.
#[derive(Debug)]
pub(crate) struct SentTimes(TimestampMicrosecondBuilder);

impl SentTimes {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self(TimestampMicrosecondBuilder::with_capacity(rows))
    }

    pub(crate) fn push(&mut self, sent_at_us: Option<i64>) {
        // A clock beyond year 9999 can't be shown by most readers and fails whole queries; it says
        // nothing either.
        self.0
            .append_option(sent_at_us.filter(|micros| in_range(*micros)));
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish().with_timezone("UTC"))
    }
}

/// What was mended in an event.
#[derive(Debug)]
pub(crate) struct WarningLists(ListBuilder<StringBuilder>);

impl WarningLists {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let texts = StringBuilder::with_capacity(0, 0);
        Self(ListBuilder::with_capacity(texts, rows).with_field(text_element()))
    }

    /// Adds a list, null if it is empty; returns the bytes that are newly held.
    pub(crate) fn push(&mut self, warnings: Warnings) -> usize {
        if warnings.is_empty() {
            self.0.append_null();
            return 0;
        }
        let mut bytes = 0;
        for warning in warnings.iter() {
            self.0.values().append_value(warning.as_str());
            bytes += 32;
            if warning == Warning::DistinctIdTruncated {
                let length = warnings.distinct_id_length();
                self.0
                    .values()
                    .append_value(format!("distinct_id_length:{length}"));
                bytes += 32;
            }
        }
        self.0.append(true);
        bytes
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// Where rows stand in the log: the last three columns of every table.
#[derive(Debug)]
pub(crate) struct LogPlaces {
    lane: RepeatedText,
    log_position: Vec<i64>,
    batch_index: Vec<i32>,
}

impl LogPlaces {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            lane: RepeatedText::with_capacity(rows),
            log_position: Vec::with_capacity(rows),
            batch_index: Vec::with_capacity(rows),
        }
    }

    /// Adds a place; returns the bytes of text that are newly held.
    pub(crate) fn push(&mut self, record: &RecordTexts<'_>, index: i32) -> usize {
        self.log_position.push(record.log_position);
        self.batch_index.push(index);
        self.lane.push(&record.lane)
    }

    pub(crate) fn finish_into(self, columns: &mut Vec<ArrayRef>) {
        columns.push(self.lane.finish());
        columns.push(Arc::new(Int64Array::from(self.log_position)));
        columns.push(Arc::new(Int32Array::from(self.batch_index)));
    }
}

/// A column of times that are never null.
pub(crate) fn times(micros: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}
