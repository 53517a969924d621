//! The columns of the tables: the one place that names them, for Arrow, Parquet and Delta.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::{Layout, TableKind};

/// The columns of a table, in order.
pub(crate) const fn columns(table: TableKind) -> &'static [Column] {
    match table {
        TableKind::Events => EVENTS,
        TableKind::Rejected => REJECTED,
        TableKind::Recordings => RECORDINGS,
    }
}

/// What a column holds and, for text, how it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text with few distinct values: dictionary in memory and in the file.
    Repeated,
    /// Text that hardly repeats: no dictionary, which would only fill up and be given up.
    Varied,
    /// As `Varied`, and of no use to skip by: no statistics either.
    Opaque,
    Date,
    Time,
    Bool,
    Int,
    Long,
    Texts,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// In the path of a partitioned table, not in its files.
    pub(crate) partition: bool,
}

const fn plain(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        partition: false,
    }
}

const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: true,
        partition: false,
    }
}

const fn partition(name: &'static str, kind: Kind) -> Column {
    Column {
        name,
        kind,
        nullable: false,
        partition: true,
    }
}

/// `rows` of `events` are built in this very order.
const EVENTS: &[Column] = &[
    partition("project", Kind::Repeated),
    partition("date", Kind::Date),
    plain("uuid", Kind::Opaque),
    plain("event", Kind::Repeated),
    plain("distinct_id", Kind::Varied),
    plain("timestamp", Kind::Time),
    plain("received_at", Kind::Time),
    nullable("sent_at", Kind::Time),
    nullable("client_timestamp", Kind::Opaque),
    plain("properties", Kind::Opaque),
    plain("person_mode", Kind::Repeated),
    nullable("session_id", Kind::Varied),
    nullable("window_id", Kind::Varied),
    nullable("lib", Kind::Repeated),
    nullable("lib_version", Kind::Repeated),
    nullable("elements_chain", Kind::Opaque),
    nullable("ip", Kind::Repeated),
    plain("token", Kind::Repeated),
    plain("historical", Kind::Bool),
    nullable("warnings", Kind::Texts),
    plain("lane", Kind::Repeated),
    plain("log_position", Kind::Long),
    plain("batch_index", Kind::Int),
];

/// Nullable is what a refused event may be without.
const REJECTED: &[Column] = &[
    partition("date", Kind::Date),
    plain("received_at", Kind::Time),
    plain("project", Kind::Repeated),
    plain("token", Kind::Repeated),
    plain("endpoint", Kind::Repeated),
    plain("reason", Kind::Repeated),
    plain("detail", Kind::Repeated),
    nullable("event", Kind::Repeated),
    nullable("distinct_id", Kind::Varied),
    nullable("uuid", Kind::Opaque),
    plain("raw", Kind::Opaque),
    plain("lane", Kind::Repeated),
    plain("log_position", Kind::Long),
    plain("batch_index", Kind::Int),
];

/// What a reader of session replay needs to find snapshots and to put them in order; the snapshots
/// themselves are in `properties`, unread.
const RECORDINGS: &[Column] = &[
    partition("project", Kind::Repeated),
    partition("date", Kind::Date),
    plain("session_id", Kind::Repeated),
    plain("window_id", Kind::Repeated),
    plain("uuid", Kind::Opaque),
    plain("event", Kind::Repeated),
    plain("distinct_id", Kind::Repeated),
    plain("timestamp", Kind::Time),
    plain("received_at", Kind::Time),
    nullable("sent_at", Kind::Time),
    nullable("client_timestamp", Kind::Opaque),
    plain("snapshot_source", Kind::Repeated),
    nullable("lib", Kind::Repeated),
    nullable("lib_version", Kind::Repeated),
    plain("properties", Kind::Opaque),
    plain("token", Kind::Repeated),
    nullable("warnings", Kind::Texts),
    plain("lane", Kind::Repeated),
    plain("log_position", Kind::Long),
    plain("batch_index", Kind::Int),
];

/// The Arrow schema of the batches that go into a table's files.
pub(crate) fn arrow_schema(table: TableKind, layout: Layout) -> SchemaRef {
    let fields: Vec<Field> = columns(table)
        .iter()
        .filter(|column| layout == Layout::Flat || !column.partition)
        .map(|column| Field::new(column.name, data_type(column.kind), column.nullable))
        .collect();
    Arc::new(Schema::new(fields))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Repeated => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        Kind::Varied | Kind::Opaque => DataType::Utf8,
        Kind::Date => DataType::Date32,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Bool => DataType::Boolean,
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Texts => DataType::List(text_element()),
    }
}

/// The element of a list of texts, named as Parquet and Delta name it.
pub(crate) fn text_element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, true))
}

/// The columns of a table as Delta's schema JSON, partition columns in their places.
pub fn delta_schema_json(table: TableKind) -> String {
    let fields: Vec<String> = columns(table)
        .iter()
        .map(|column| {
            let type_json = match column.kind {
                Kind::Repeated | Kind::Varied | Kind::Opaque => r#""string""#,
                Kind::Date => r#""date""#,
                Kind::Time => r#""timestamp""#,
                Kind::Bool => r#""boolean""#,
                Kind::Int => r#""integer""#,
                Kind::Long => r#""long""#,
                Kind::Texts => r#"{"type":"array","elementType":"string","containsNull":true}"#,
            };
            let (name, nullable) = (column.name, column.nullable);
            format!(
                r#"{{"name":"{name}","type":{type_json},"nullable":{nullable},"metadata":{{}}}}"#
            )
        })
        .collect();
    format!(r#"{{"type":"struct","fields":[{}]}}"#, fields.join(","))
}
