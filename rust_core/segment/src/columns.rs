//! Columns that grow row by row.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, TimestampMicrosecondArray};

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

    pub(crate) fn text_bytes(&self) -> usize {
        self.0.values_slice().len()
    }

    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

/// A column of times that are never null.
pub(crate) fn times(micros: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC"))
}
