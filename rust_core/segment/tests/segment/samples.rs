//! Random logs, and the rows that they have to become.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use penstock_model::{Batch, Code, Endpoint, LaneId, Outcome, Position};
use penstock_segment::{RecordMeta, TableKind};

use crate::support::{BatchMaker, DAY_US, LANE};

/// The lane of the second half of a random log: a restart in between.
pub(crate) const NEXT_LANE: LaneId = LaneId::from_bytes([3; 16]);

const PROJECTS: [&str; 4] = ["shop", "a/b", "日本", "12"];

/// Days since 1970 that times fall on, with their dates: spelled out, so that nothing here counts
/// days as the crate does.
const DAYS: [(i64, &str); 3] = [
    (-1, "1969-12-31"),
    (0, "1970-01-01"),
    (19_782, "2024-02-29"),
];

/// Numbers that are the same for the same seed.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        BuildHasherDefault::<DefaultHasher>::default().hash_one((self.seed, self.drawn))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn time_us(&mut self) -> i64 {
        let (day, _) = self.pick(&DAYS);
        // Half of them on the day's first or last microsecond.
        let in_day = match self.below(4) {
            0 => 0,
            1 => DAY_US - 1,
            _ => i64::try_from(self.next() >> 1).unwrap() % DAY_US,
        };
        day * DAY_US + in_day
    }
}

/// A record that owns its batch.
#[derive(Debug)]
pub(crate) struct Logged {
    lane: LaneId,
    pub(crate) position: u64,
    project: &'static str,
    received_at_us: i64,
    endpoint: Endpoint,
    batch: Batch,
}

impl Logged {
    pub(crate) fn meta(&self) -> RecordMeta<'_> {
        RecordMeta {
            lane: self.lane,
            position: Position::new(self.position),
            project: self.project,
            received_at_us: self.received_at_us,
            client_address: None,
            endpoint: self.endpoint,
            batch: &self.batch,
        }
    }
}

/// Records of 0 to 7 events with every sort of outcome, over a restart, some positions left out.
pub(crate) fn random_log(random: &mut Random, records: usize) -> Vec<Logged> {
    let mut position = 0;
    let mut log = Vec::new();
    for number in 0..records {
        position += random.pick(&[1, 1, 1, 5]);
        let mut maker = BatchMaker::new("token");
        for _ in 0..random.below(8) {
            let outcome = match random.below(6) {
                0 => Outcome::Duplicate,
                1 => Outcome::Rejected(Code::EventTooLarge),
                _ => Outcome::Accepted,
            };
            // Some rows larger than what is buffered before a file, so that it grows in steps.
            let filler = "x".repeat(random.pick(&[0, 10, 10_000]));
            let properties = maker.text(&format!(r#"{{"filler":"{filler}"}}"#));
            let time_us = random.time_us();
            maker.event(outcome, time_us).properties = properties;
        }
        log.push(Logged {
            lane: if number < records / 2 {
                LANE
            } else {
                NEXT_LANE
            },
            position,
            project: random.pick(&PROJECTS),
            received_at_us: random.time_us(),
            endpoint: random.pick(&[Endpoint::Batch, Endpoint::Batch, Endpoint::Recordings]),
            batch: maker.0,
        });
    }
    log
}

/// A table and the raw values of its partition columns.
pub(crate) type Partition = (TableKind, Vec<(String, String)>);

/// Position, index in the batch, lane.
pub(crate) type Place = (u64, u64, String);

/// The places of the rows that `log` has to become, by partition, in order.
pub(crate) fn places_in(log: &[Logged]) -> BTreeMap<Partition, Vec<Place>> {
    let date = |time_us: i64| {
        let day = time_us.div_euclid(DAY_US);
        let (_, text) = DAYS.iter().find(|(number, _)| *number == day).unwrap();
        ("date".to_owned(), (*text).to_owned())
    };
    let mut places: BTreeMap<Partition, Vec<Place>> = BTreeMap::new();
    for record in log {
        for (event, index) in record.batch.events.iter().zip(0..) {
            let partition = match event.outcome {
                Outcome::Accepted => {
                    let project = ("project".to_owned(), record.project.to_owned());
                    let table = match record.endpoint {
                        Endpoint::Recordings => TableKind::Recordings,
                        _ => TableKind::Events,
                    };
                    (table, vec![project, date(event.timestamp_us)])
                }
                Outcome::Rejected(_) => (TableKind::Rejected, vec![date(record.received_at_us)]),
                Outcome::Duplicate => continue,
            };
            let place = (record.position, index, record.lane.to_string());
            places.entry(partition).or_default().push(place);
        }
    }
    places
}
