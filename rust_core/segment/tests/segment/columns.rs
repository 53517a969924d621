//! Every column of every table, written and read back.

use std::net::IpAddr;

use parquet::file::metadata::RowGroupMetaData;
use penstock_model::{ClientIp, Code, Endpoint, Outcome, Warning};
use penstock_segment::{Codec, Layout, SegmentOptions, TableKind};
use serde_json::{Value, json};

use crate::support::{
    BatchMaker, Bench, LANE, NOON_US, OPTIONS, Row, accepted_at, record, refused, upload,
};

fn row(value: &Value) -> Row {
    value.as_object().unwrap().clone().into_iter().collect()
}

#[test]
fn an_event_with_everything_reads_back_as_it_was_sent() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("phc_token");
    let texts = [
        "2024-02-29 12:34",
        "session",
        "window",
        "web",
        "1.2.3",
        "a.link",
        "192.0.2.7",
    ]
    .map(|text| maker.text(text));
    let event = maker.event(Outcome::Accepted, NOON_US);
    let [
        client_timestamp,
        session_id,
        window_id,
        lib,
        lib_version,
        elements_chain,
        ip,
    ] = texts.map(Some);
    event.client_timestamp = client_timestamp;
    event.session_id = session_id;
    event.window_id = window_id;
    event.lib = lib;
    event.lib_version = lib_version;
    event.elements_chain = elements_chain;
    event.ip = ip.map_or(ClientIp::Unsaid, ClientIp::Given);
    event.propertyless = true;
    event.warnings.add(Warning::InvalidUtf8);
    event.warnings.add_truncated(312);
    maker.0.historical = true;
    maker.0.sent_at_us = Some(NOON_US - 5);
    let mut meta = record(42, "shop", &maker.0);
    meta.received_at_us = NOON_US + 9;
    meta.client_address = Some(IpAddr::from([198, 51, 100, 1]));
    bench.append(&meta).unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(
        bench.read(&files[0]),
        [row(&json!({
            "uuid": "00000000-0000-0000-0000-000000000000",
            "event": "$pageview",
            "distinct_id": "user-0",
            "timestamp": NOON_US,
            "received_at": NOON_US + 9,
            "sent_at": NOON_US - 5,
            "client_timestamp": "2024-02-29 12:34",
            "properties": r#"{"a":1}"#,
            "person_mode": "propertyless",
            "session_id": "session",
            "window_id": "window",
            "lib": "web",
            "lib_version": "1.2.3",
            "elements_chain": "a.link",
            "ip": "192.0.2.7",
            "token": "phc_token",
            "historical": true,
            "warnings": ["distinct_id_truncated", "distinct_id_length:312", "invalid_utf8"],
            "lane": LANE.to_string(),
            "log_position": 42,
            "batch_index": 0,
        }))]
    );
}

#[test]
fn an_event_with_the_least_has_nulls_and_the_client_address() {
    let mut bench = Bench::partitioned();
    let batch = accepted_at(&[NOON_US]);
    let mut meta = record(1, "shop", &batch);
    meta.client_address = Some("2001:db8::1".parse().unwrap());
    bench.append(&meta).unwrap();
    let files = bench.builder.finish().unwrap();
    let rows = bench.read(&files[0]);
    let nulls = [
        "sent_at",
        "client_timestamp",
        "session_id",
        "window_id",
        "lib",
        "lib_version",
        "elements_chain",
        "warnings",
    ];
    for (name, value) in &rows[0] {
        assert_eq!(value.is_null(), nulls.contains(&name.as_str()), "{name}");
    }
    assert_eq!(rows[0]["ip"], "2001:db8::1");
    assert_eq!(rows[0]["person_mode"], "full");
    assert_eq!(rows[0]["historical"], false);
}

#[test]
fn an_event_that_withholds_its_address_has_none() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("phc_token");
    maker.event(Outcome::Accepted, NOON_US).ip = ClientIp::Withheld;
    let mut meta = record(1, "shop", &maker.0);
    meta.client_address = Some("2001:db8::1".parse().unwrap());
    bench.append(&meta).unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(bench.read(&files[0])[0]["ip"], Value::Null);
}

#[test]
fn a_refused_event_reads_back_with_its_reason() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("phc_token");
    maker.event(Outcome::Accepted, NOON_US);
    maker.event(Outcome::Rejected(Code::EventTooLarge), NOON_US);
    let unreadable = maker.event(Outcome::Rejected(Code::NotAnObject), 0);
    unreadable.event = penstock_model::Text::EMPTY;
    unreadable.distinct_id = penstock_model::Text::EMPTY;
    unreadable.uuid_given = false;
    let mut meta = record(3, "shop", &maker.0);
    meta.endpoint = Endpoint::IV0E;
    bench.append(&meta).unwrap();
    let files = bench.builder.finish().unwrap();
    let file = files
        .iter()
        .find(|file| file.table == TableKind::Rejected)
        .unwrap();
    let common = |other: Value| {
        let mut all = row(&json!({
            "received_at": NOON_US,
            "project": "shop",
            "token": "phc_token",
            "endpoint": "i/v0/e",
            "raw": r#"{"event":"$pageview"}"#,
            "lane": LANE.to_string(),
            "log_position": 3,
        }));
        all.extend(row(&other));
        all
    };
    assert_eq!(
        bench.read(file),
        [
            common(json!({
                "reason": "event_too_large",
                "detail": Code::EventTooLarge.public_text(),
                "event": "$pageview",
                "distinct_id": "user-1",
                "uuid": "00000000-0000-0000-0000-000000000001",
                "batch_index": 1,
            })),
            common(json!({
                "reason": "not_an_object",
                "detail": Code::NotAnObject.public_text(),
                "event": null,
                "distinct_id": null,
                "uuid": null,
                "batch_index": 2,
            })),
        ]
    );
}

#[test]
fn a_snapshot_with_everything_reads_back_as_it_was_sent() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("phc_token");
    // Compressed by the page itself, and still text: with the escape of NUL in it.
    let properties = r#"{"$snapshot_data":["\u001f\u0000é"]}"#;
    let texts = [
        "2024-02-29 12:34",
        "session",
        "window",
        "mobile",
        "posthog-ios",
        "3.1",
        properties,
    ]
    .map(|text| maker.text(text));
    let event = maker.event(Outcome::Accepted, NOON_US);
    event.client_timestamp = Some(texts[0]);
    event.session_id = Some(texts[1]);
    event.window_id = Some(texts[2]);
    event.snapshot_source = Some(texts[3]);
    event.lib = Some(texts[4]);
    event.lib_version = Some(texts[5]);
    event.properties = texts[6];
    event.warnings.add(Warning::LoneSurrogate);
    maker.0.sent_at_us = Some(NOON_US - 5);
    let mut meta = upload(42, "shop", &maker.0);
    meta.received_at_us = NOON_US + 9;
    bench.append(&meta).unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(
        files[0].partition,
        [("project", "shop"), ("date", "2024-02-29")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    assert_eq!(
        bench.read(&files[0]),
        [row(&json!({
            "session_id": "session",
            "window_id": "window",
            "uuid": "00000000-0000-0000-0000-000000000000",
            "event": "$pageview",
            "distinct_id": "user-0",
            "timestamp": NOON_US,
            "received_at": NOON_US + 9,
            "sent_at": NOON_US - 5,
            "client_timestamp": "2024-02-29 12:34",
            "snapshot_source": "mobile",
            "lib": "posthog-ios",
            "lib_version": "3.1",
            "properties": properties,
            "token": "phc_token",
            "warnings": ["lone_surrogate"],
            "lane": LANE.to_string(),
            "log_position": 42,
            "batch_index": 0,
        }))]
    );
}

#[test]
fn a_snapshot_with_the_least_is_of_the_web_and_of_the_sessions_only_window() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("phc_token");
    let session_id = maker.text("session");
    maker.event(Outcome::Accepted, NOON_US).session_id = Some(session_id);
    bench.append(&upload(1, "shop", &maker.0)).unwrap();
    let files = bench.builder.finish().unwrap();
    let rows = bench.read(&files[0]);
    let nulls = ["sent_at", "client_timestamp", "lib_version", "warnings"];
    for (name, value) in &rows[0] {
        assert_eq!(value.is_null(), nulls.contains(&name.as_str()), "{name}");
    }
    assert_eq!(rows[0]["window_id"], "session");
    assert_eq!(rows[0]["snapshot_source"], "web");
    assert_eq!(rows[0]["lib"], "web");
}

#[test]
fn the_text_of_a_refused_event_is_cut_at_a_characters_border() {
    let options = SegmentOptions {
        max_rejected_raw_bytes: 4,
        ..OPTIONS
    };
    let mut bench = Bench::new(Layout::Partitioned, options);
    let mut maker = BatchMaker::new("token");
    for raw in ["abcd", "abcde", "abcé", "abé"] {
        let raw = maker.text(raw);
        maker.event(Outcome::Rejected(Code::EventTooLarge), 0).raw = raw;
    }
    bench.append(&record(1, "shop", &maker.0)).unwrap();
    let files = bench.builder.finish().unwrap();
    let raws: Vec<Value> = bench
        .read(&files[0])
        .iter()
        .map(|row| row["raw"].clone())
        .collect();
    assert_eq!(raws, ["abcd", "abcd", "abc", "abé"]);
}

#[test]
fn a_client_clock_outside_of_the_calendar_is_no_clock() {
    let mut bench = Bench::partitioned();
    let mut batch = accepted_at(&[NOON_US]);
    batch.sent_at_us = Some(i64::MAX);
    bench.append(&record(1, "shop", &batch)).unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(bench.read(&files[0])[0]["sent_at"], Value::Null);
}

#[test]
fn a_flat_file_holds_the_partition_columns_too() {
    let mut bench = Bench::new(Layout::Flat, OPTIONS);
    let batch = accepted_at(&[NOON_US, -1]);
    bench.append(&record(1, "a/b", &batch)).unwrap();
    let other = refused(1);
    bench.append(&record(2, "other", &other)).unwrap();
    let snapshot = accepted_at(&[NOON_US]);
    bench.append(&upload(3, "replayed", &snapshot)).unwrap();
    let files = bench.builder.finish().unwrap();
    assert_eq!(files.len(), 3);
    for file in &files {
        assert_eq!(file.partition, []);
        assert!(
            file.path.starts_with(&format!("{}-", file.table.name())),
            "{}",
            file.path
        );
    }
    let events = bench.rows_of(TableKind::Events, &files);
    let of_events: Vec<_> = events
        .iter()
        .map(|row| (&row["project"], &row["date"]))
        .collect();
    assert_eq!(
        of_events,
        [(&json!("a/b"), &json!(19_782)), (&json!("a/b"), &json!(-1))]
    );
    let rejected = bench.rows_of(TableKind::Rejected, &files);
    assert_eq!(rejected[0]["date"], 19_782);
    assert_eq!(rejected[0]["project"], "other");
    let recordings = bench.rows_of(TableKind::Recordings, &files);
    assert_eq!(recordings[0]["date"], 19_782);
    assert_eq!(recordings[0]["project"], "replayed");
}

/// Dictionaries, nulls and lists across batches and row groups, against what was put in.
#[test]
fn rows_keep_their_order_and_values_across_batches_and_row_groups() {
    for codec in [Codec::Zstd(1), Codec::Lz4Raw, Codec::None, Codec::Zstd(99)] {
        let options = SegmentOptions {
            codec,
            batch_rows: 7,
            row_group_rows: 20,
            ..OPTIONS
        };
        let mut bench = Bench::new(Layout::Partitioned, options);
        let mut expected = Vec::new();
        for position in 1..=30_u64 {
            let mut maker = BatchMaker::new("token");
            for index in 0..position % 5 {
                let number = position * 10 + index;
                let lib = maker.text(&format!("lib{}", number % 3));
                let elements = maker.text(&"é".repeat(usize::try_from(number % 4).unwrap()));
                let event = maker.event(Outcome::Accepted, NOON_US);
                event.lib = (number % 2 == 0).then_some(lib);
                event.elements_chain = (number % 3 == 0).then_some(elements);
                if number % 7 == 0 {
                    event.warnings.add(Warning::LoneSurrogate);
                }
                expected.push(json!([
                    position,
                    index,
                    (number % 2 == 0).then(|| format!("lib{}", number % 3)),
                    (number % 3 == 0).then(|| "é".repeat(usize::try_from(number % 4).unwrap())),
                    (number % 7 == 0).then_some(["lone_surrogate"]),
                ]));
            }
            bench.append(&record(position, "shop", &maker.0)).unwrap();
        }
        let files = bench.builder.finish().unwrap();
        assert_eq!(files.len(), 1);
        let metadata = bench.metadata(&files[0]);
        let groups: Vec<i64> = metadata
            .row_groups()
            .iter()
            .map(RowGroupMetaData::num_rows)
            .collect();
        assert_eq!(groups, [20, 20, 20]);
        let names = [
            "log_position",
            "batch_index",
            "lib",
            "elements_chain",
            "warnings",
        ];
        let rows = bench.read(&files[0]);
        let found: Vec<Value> = rows
            .iter()
            .map(|row| names.iter().map(|name| row[*name].clone()).collect())
            .collect();
        assert_eq!(found, expected);
    }
}

/// Batches are cut by bytes too: offsets have 31 bits, and memory is bounded.
#[test]
fn large_events_are_encoded_before_a_batch_is_full_of_rows() {
    let mut bench = Bench::partitioned();
    let mut maker = BatchMaker::new("token");
    for _ in 0..12 {
        let properties = maker.text(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20)));
        maker.event(Outcome::Accepted, NOON_US).properties = properties;
    }
    bench.append(&record(1, "shop", &maker.0)).unwrap();
    assert!(bench.builder.buffered_bytes() < 20 << 20);
    let files = bench.builder.finish().unwrap();
    let rows = bench.read(&files[0]);
    assert_eq!(rows.len(), 12);
    assert!(
        rows.iter()
            .all(|row| row["properties"].as_str().unwrap().len() == (1 << 20) + 8)
    );
}
