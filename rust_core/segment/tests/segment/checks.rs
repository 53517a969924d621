//! What must hold for every file of a cut, whatever is in it.

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use penstock_disk::Filesystem;
use penstock_segment::{SegmentFile, TableKind};
use serde_json::{Map, Value, json};

use crate::samples::{Partition, Place};
use crate::support::{DAY_US, Row, read};

/// Rows by partition, in order of place.
pub(crate) type Rows = BTreeMap<Partition, Vec<Row>>;

/// Checks every file below `folder` and gives all of their rows.
pub(crate) fn checked_rows(
    filesystem: &dyn Filesystem,
    folder: &Path,
    files: &[SegmentFile],
) -> Rows {
    let mut rows = Rows::new();
    for file in files {
        let partition = (file.table, file.partition.clone());
        let all = rows.entry(partition).or_default();
        all.extend(checked_file(filesystem, folder, file));
        // A partition's files come by name, in which lanes stand first.
        all.sort_by_key(place);
    }
    rows
}

pub(crate) fn places_of(rows: &Rows) -> BTreeMap<Partition, Vec<Place>> {
    let of_rows = |rows: &Vec<Row>| rows.iter().map(place).collect();
    let places = rows.iter();
    places
        .map(|(partition, rows)| (partition.clone(), of_rows(rows)))
        .collect()
}

fn place(row: &Row) -> Place {
    let number = |name: &str| row[name].as_u64().unwrap();
    let lane = row["lane"].as_str().unwrap().to_owned();
    (number("log_position"), number("batch_index"), lane)
}

/// Reads a file and compares it with everything that was said of it.
pub(crate) fn checked_file(
    filesystem: &dyn Filesystem,
    folder: &Path,
    file: &SegmentFile,
) -> Vec<Row> {
    let path = folder.join(file.table.name()).join(&file.path);
    let (rows, metadata) = read(filesystem, &path);
    let shown = path.display();
    assert!(!rows.is_empty(), "{shown} has no row");
    assert_eq!(filesystem.len(&path).unwrap(), file.size_bytes, "{shown}");
    assert_eq!(
        u64::try_from(rows.len()).unwrap(),
        file.rows,
        "rows of {shown}"
    );

    let places: Vec<Place> = rows.iter().map(place).collect();
    assert!(
        places.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)),
        "rows of {shown} are not in the order of the log: {places:?}"
    );
    assert_eq!(places[0].0, file.first_position.get(), "{shown}");
    assert_eq!(
        places[places.len() - 1].0,
        file.last_position.get(),
        "{shown}"
    );
    let mut lanes: Vec<&str> = places.iter().map(|(.., lane)| lane.as_str()).collect();
    lanes.dedup();
    let start = format!("{}-{:020}-", lanes[0], places[0].0);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(
        name.contains(&start),
        "{name} names another row than its first"
    );
    let said = pair(&metadata, "penstock.lanes");
    assert_eq!(said, lanes.join(","), "lanes of {shown}");

    let claimed: Value = serde_json::from_str(&file.stats_json).unwrap();
    assert_eq!(
        in_numbers(&claimed),
        true_stats(file.table, &rows),
        "{shown}"
    );
    check_footer(&metadata, &claimed);
    check_day(file, &rows);
    rows
}

fn pair(metadata: &ParquetMetaData, key: &str) -> String {
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let pair = pairs.iter().find(|pair| pair.key == key).unwrap();
    pair.value.clone().unwrap()
}

fn columns_with_stats(table: TableKind) -> &'static [&'static str] {
    match table {
        TableKind::Events | TableKind::Recordings => &["timestamp", "received_at", "log_position"],
        TableKind::Rejected => &["received_at", "log_position"],
    }
}

/// Statistics counted from the rows; times in microseconds.
fn true_stats(table: TableKind, rows: &[Row]) -> Value {
    let columns = columns_with_stats(table);
    let of_columns = |what: fn(&[Value]) -> Value| -> Map<String, Value> {
        let column =
            |name: &str| -> Vec<Value> { rows.iter().map(|row| row[name].clone()).collect() };
        let entries = columns.iter();
        entries
            .map(|name| ((*name).to_owned(), what(&column(name))))
            .collect()
    };
    json!({
        "numRecords": rows.len(),
        "minValues": of_columns(|values| json!(values.iter().filter_map(Value::as_i64).min())),
        "maxValues": of_columns(|values| json!(values.iter().filter_map(Value::as_i64).max())),
        "nullCount": of_columns(|values| json!(values.iter().filter(|value| value.is_null()).count())),
    })
}

/// Statistics with their times in microseconds.
fn in_numbers(stats: &Value) -> Value {
    match stats {
        Value::String(time) => json!(micros_of(time)),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| (name.clone(), in_numbers(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Parquet's own ranges, which readers skip row groups by, say the same as Delta's.
fn check_footer(metadata: &ParquetMetaData, claimed: &Value) {
    let stats = in_numbers(claimed);
    for (name, least) in stats["minValues"].as_object().unwrap() {
        let groups = metadata.row_groups().iter();
        let chunks = groups.flat_map(RowGroupMetaData::columns);
        let of_column = chunks.filter(|chunk| chunk.column_path().string() == *name);
        let ranges: Vec<(i64, i64)> = of_column
            .map(|chunk| match chunk.statistics() {
                Some(Statistics::Int64(stats)) => {
                    (*stats.min_opt().unwrap(), *stats.max_opt().unwrap())
                }
                other => panic!("statistics of {name}: {other:?}"),
            })
            .collect();
        assert_eq!(json!(ranges.iter().map(|(min, _)| min).min()), *least);
        assert_eq!(
            json!(ranges.iter().map(|(_, max)| max).max()),
            stats["maxValues"][name]
        );
    }
}

/// Every row of a partition falls on its date.
fn check_day(file: &SegmentFile, rows: &[Row]) {
    let Some((_, date)) = file.partition.iter().find(|(name, _)| name == "date") else {
        return;
    };
    let start = micros_of(&format!("{date}T00:00:00.000000Z"));
    let column = columns_with_stats(file.table)[0];
    for row in rows {
        let time = row[column].as_i64().unwrap();
        assert!(
            (start..start + DAY_US).contains(&time),
            "{time} is not on {date}"
        );
    }
}

/// Microseconds since 1970 of a time as Delta has it, counted from the year 1 on.
pub(crate) fn micros_of(time: &str) -> i64 {
    let shape: String = time
        .chars()
        .map(|character| {
            if character.is_ascii_digit() {
                '0'
            } else {
                character
            }
        })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{time}");
    let number =
        |start: usize, end: usize| -> i64 { time.get(start..end).unwrap().parse().unwrap() };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let before = year - 1;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let months = [
        31,
        28 + i64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let days = before * 365 + before / 4 - before / 100 + before / 400
        + months.iter().take(usize::try_from(month - 1).unwrap()).sum::<i64>()
        + day - 1
        // From 0001-01-01 to 1970-01-01.
        - 719_162;
    let seconds = number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19);
    days * DAY_US + seconds * 1_000_000 + number(20, 26)
}
