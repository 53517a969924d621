//! What the files say of themselves, and what the tables are created with.

use parquet::basic::{Encoding, LogicalType, TimeUnit};
use parquet::file::metadata::ParquetMetaData;
use penstock_segment::{Layout, TableKind, delta_schema_json};
use serde_json::{Value, json};

use crate::support::{
    BatchMaker, Bench, LANE, NOON_US, OPTIONS, accepted_at, record, refused, upload,
};

fn fields(table: TableKind) -> Vec<(String, Value, bool)> {
    let schema: Value = serde_json::from_str(&delta_schema_json(table)).unwrap();
    assert_eq!(schema["type"], "struct");
    let fields = schema["fields"].as_array().unwrap();
    assert!(fields.iter().all(|field| field["metadata"] == json!({})));
    let part = |field: &Value| {
        let name = field["name"].as_str().unwrap().to_owned();
        (
            name,
            field["type"].clone(),
            field["nullable"].as_bool().unwrap(),
        )
    };
    fields.iter().map(part).collect()
}

#[test]
fn the_schema_of_events_has_the_published_columns() {
    let texts = json!({"type": "array", "elementType": "string", "containsNull": true});
    let expected = [
        ("project", json!("string"), false),
        ("date", json!("date"), false),
        ("uuid", json!("string"), false),
        ("event", json!("string"), false),
        ("distinct_id", json!("string"), false),
        ("timestamp", json!("timestamp"), false),
        ("received_at", json!("timestamp"), false),
        ("sent_at", json!("timestamp"), true),
        ("client_timestamp", json!("string"), true),
        ("properties", json!("string"), false),
        ("person_mode", json!("string"), false),
        ("session_id", json!("string"), true),
        ("window_id", json!("string"), true),
        ("lib", json!("string"), true),
        ("lib_version", json!("string"), true),
        ("elements_chain", json!("string"), true),
        ("ip", json!("string"), true),
        ("token", json!("string"), false),
        ("historical", json!("boolean"), false),
        ("warnings", texts, true),
        ("lane", json!("string"), false),
        ("log_position", json!("long"), false),
        ("batch_index", json!("integer"), false),
    ];
    let expected = expected.map(|(name, kind, nullable)| (name.to_owned(), kind, nullable));
    assert_eq!(fields(TableKind::Events), expected);
}

#[test]
fn the_schema_of_rejected_has_the_published_columns() {
    let expected = [
        ("date", "date", false),
        ("received_at", "timestamp", false),
        ("project", "string", false),
        ("token", "string", false),
        ("endpoint", "string", false),
        ("reason", "string", false),
        ("detail", "string", false),
        ("event", "string", true),
        ("distinct_id", "string", true),
        ("uuid", "string", true),
        ("raw", "string", false),
        ("lane", "string", false),
        ("log_position", "long", false),
        ("batch_index", "integer", false),
    ];
    let expected = expected.map(|(name, kind, nullable)| (name.to_owned(), json!(kind), nullable));
    assert_eq!(fields(TableKind::Rejected), expected);
}

#[test]
fn the_schema_of_recordings_has_the_published_columns() {
    let texts = json!({"type": "array", "elementType": "string", "containsNull": true});
    let expected = [
        ("project", json!("string"), false),
        ("date", json!("date"), false),
        ("session_id", json!("string"), false),
        ("window_id", json!("string"), false),
        ("uuid", json!("string"), false),
        ("event", json!("string"), false),
        ("distinct_id", json!("string"), false),
        ("timestamp", json!("timestamp"), false),
        ("received_at", json!("timestamp"), false),
        ("sent_at", json!("timestamp"), true),
        ("client_timestamp", json!("string"), true),
        ("snapshot_source", json!("string"), false),
        ("lib", json!("string"), true),
        ("lib_version", json!("string"), true),
        ("properties", json!("string"), false),
        ("token", json!("string"), false),
        ("warnings", texts, true),
        ("lane", json!("string"), false),
        ("log_position", json!("long"), false),
        ("batch_index", json!("integer"), false),
    ];
    let expected = expected.map(|(name, kind, nullable)| (name.to_owned(), kind, nullable));
    assert_eq!(fields(TableKind::Recordings), expected);
}

fn file_columns(metadata: &ParquetMetaData) -> Vec<(String, bool)> {
    let fields = metadata.file_metadata().schema().get_fields();
    fields
        .iter()
        .map(|field| (field.name().to_owned(), field.is_optional()))
        .collect()
}

#[test]
fn files_hold_the_schemas_columns_in_order_without_those_of_the_path() {
    for (layout, hidden) in [
        (Layout::Flat, vec![]),
        (Layout::Partitioned, vec!["project", "date"]),
    ] {
        let mut bench = Bench::new(layout, OPTIONS);
        bench
            .append(&record(1, "shop", &accepted_at(&[NOON_US])))
            .unwrap();
        bench.append(&record(2, "shop", &refused(1))).unwrap();
        bench
            .append(&upload(3, "shop", &accepted_at(&[NOON_US])))
            .unwrap();
        for file in bench.builder.finish().unwrap() {
            // `rejected` has its project inside: it is partitioned by date alone.
            let hidden = |name: &str| {
                hidden.contains(&name) && (file.table != TableKind::Rejected || name == "date")
            };
            let expected: Vec<_> = fields(file.table)
                .into_iter()
                .filter(|(name, ..)| !hidden(name))
                .map(|(name, _, nullable)| (name, nullable))
                .collect();
            assert_eq!(file_columns(&bench.metadata(&file)), expected);
        }
    }
}

#[test]
fn files_are_plain_parquet_with_the_encodings_that_were_measured() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("token");
    for _ in 0..100 {
        maker.event(penstock_model::Outcome::Accepted, NOON_US);
    }
    bench.append(&record(9, "shop", &maker.0)).unwrap();
    let files = bench.builder.finish().unwrap();
    let metadata = bench.metadata(&files[0]);
    let file = metadata.file_metadata();
    assert!(file.created_by().unwrap().starts_with("penstock version "));
    let pairs: Vec<_> = file
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.clone().unwrap()))
        .collect();
    // No `ARROW:schema`: with it, readers would see dictionaries where the table has strings.
    let expected = [
        ("penstock.first_position", "9".to_owned()),
        ("penstock.lanes", LANE.to_string()),
        ("penstock.last_position", "9".to_owned()),
    ];
    assert_eq!(pairs, expected);
    for column in metadata.row_group(0).columns() {
        let name = column.column_path().string();
        let encodings: Vec<Encoding> = column.encodings().collect();
        let dictionary = encodings.contains(&Encoding::RLE_DICTIONARY);
        match name.as_str() {
            "event"
            | "person_mode"
            | "lib"
            | "lib_version"
            | "ip"
            | "token"
            | "lane"
            | "warnings.list.element" => assert!(dictionary, "{name}: {encodings:?}"),
            "timestamp" | "received_at" | "sent_at" | "log_position" | "batch_index" => {
                assert!(encodings.contains(&Encoding::DELTA_BINARY_PACKED), "{name}");
            }
            _ => assert!(!dictionary, "{name}: {encodings:?}"),
        }
        let opaque =
            ["uuid", "client_timestamp", "properties", "elements_chain"].contains(&name.as_str());
        assert_eq!(column.statistics().is_none(), opaque, "{name}");
    }
    let timestamp = &file.schema().get_fields()[3];
    let expected = LogicalType::Timestamp(parquet::basic::TimestampType {
        is_adjusted_to_u_t_c: true,
        unit: TimeUnit::MICROS,
    });
    assert_eq!(
        timestamp.get_basic_info().logical_type_ref(),
        Some(&expected)
    );
}
