//! What is known of a file's rows: for Delta's statistics and for the file's own metadata.

use std::fmt::Write as _;

use penstock_model::{LaneId, Position};

use crate::TableKind;
use crate::calendar::IsoTime;

/// Least and greatest of what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range<T>(T, T);

impl<T: Copy + Ord> Range<T> {
    const fn of(value: T) -> Self {
        Self(value, value)
    }

    fn add(&mut self, value: T) {
        self.0 = self.0.min(value);
        self.1 = self.1.max(value);
    }
}

/// Row count and ranges of one file that has at least one row.
#[derive(Clone, Debug)]
pub(crate) struct FileStats {
    rows: u64,
    /// Of tables by event time alone.
    timestamp: Option<Range<i64>>,
    received_at: Range<i64>,
    positions: Range<Position>,
    /// Each lane with rows here, in log order; more than one only in the cut behind a restart.
    lanes: Vec<LaneId>,
}

/// The place and times of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowPlace {
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) received_at_us: i64,
    pub(crate) lane: LaneId,
    pub(crate) position: Position,
}

impl FileStats {
    /// Describes the first row.
    pub(crate) fn of(row: RowPlace) -> Self {
        Self {
            rows: 1,
            timestamp: row.timestamp_us.map(Range::of),
            received_at: Range::of(row.received_at_us),
            positions: Range::of(row.position),
            lanes: vec![row.lane],
        }
    }

    /// Adds a row behind the others.
    pub(crate) fn add(&mut self, row: RowPlace) {
        self.rows += 1;
        if let (Some(range), Some(timestamp_us)) = (&mut self.timestamp, row.timestamp_us) {
            range.add(timestamp_us);
        }
        self.received_at.add(row.received_at_us);
        self.positions.add(row.position);
        if self.lanes.last() != Some(&row.lane) {
            self.lanes.push(row.lane);
        }
    }

    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) const fn first_position(&self) -> Position {
        self.positions.0
    }

    pub(crate) const fn last_position(&self) -> Position {
        self.positions.1
    }

    pub(crate) fn lanes(&self) -> &[LaneId] {
        &self.lanes
    }

    /// Delta's statistics of the time and position columns, none of which is ever null.
    pub(crate) fn delta_json(&self, table: TableKind) -> String {
        debug_assert_eq!(self.timestamp.is_some(), table.is_by_event_time());
        let side = |micros: fn(&Range<i64>) -> i64, position: Position| {
            let mut json = String::from("{");
            if let Some(timestamp) = &self.timestamp {
                push(
                    &mut json,
                    format_args!(r#""timestamp":"{}","#, IsoTime(micros(timestamp))),
                );
            }
            let received_at = IsoTime(micros(&self.received_at));
            push(&mut json, format_args!(r#""received_at":"{received_at}","#));
            push(&mut json, format_args!(r#""log_position":{position}}}"#));
            json
        };
        let least = side(|range| range.0, self.positions.0);
        let greatest = side(|range| range.1, self.positions.1);
        let timestamp_nulls = if self.timestamp.is_some() {
            r#""timestamp":0,"#
        } else {
            ""
        };
        format!(
            r#"{{"numRecords":{},"minValues":{least},"maxValues":{greatest},"nullCount":{{{timestamp_nulls}"received_at":0,"log_position":0}}}}"#,
            self.rows,
        )
    }
}

#[expect(clippy::expect_used, reason = "a String takes whatever is written")]
fn push(json: &mut String, piece: std::fmt::Arguments<'_>) {
    json.write_fmt(piece)
        .expect("writing to a String never fails");
}
