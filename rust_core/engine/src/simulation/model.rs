//! What clients sent and were told: the truth that the tables are held against.

use std::collections::{BTreeMap, BTreeSet};

use penstock_disk::Random;
use penstock_model::{Endpoint, Payload};
use penstock_segment::{ByTable, TableKind};

use crate::answer::{Completion, Submission};

/// Ids are taken from a small pool now and then, so that copies meet in flight.
const RECENT_IDS: u64 = 8;

/// Marks the ids of snapshots of session replay: those are sent by their own endpoint, as SDKs do.
const SNAPSHOT: u64 = 1 << 40;

/// Longest filler of an event: several records then fill a file of the log.
const MAX_FILLER_BYTES: u64 = 6_000;

/// One sending of a request.
#[derive(Clone, Debug)]
struct Attempt {
    ids: Vec<u64>,
    /// Events, or snapshots of session replay.
    table: TableKind,
    /// Whether a refused event rides along, marked by the attempt's number.
    has_rejected: bool,
    /// Waits for the table, by gRPC; others for the disk, by HTTP.
    at_table: bool,
    filler_bytes: usize,
    acknowledged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    attempts: Vec<Attempt>,
    /// Attempts that are neither answered nor given up.
    open: BTreeSet<u64>,
    /// Attempts whose client will send again.
    to_send_again: Vec<u64>,
    /// Ids that were ever sent, and whether any sending of theirs was acknowledged.
    ids: BTreeMap<u64, bool>,
    next_id: ByTable<u64>,
}

impl Model {
    /// A new request, or one that was not answered, sent again. The number is its ticket.
    pub(super) fn next_request(&mut self, random: &mut Random) -> (u64, Submission) {
        if !self.to_send_again.is_empty() && !random.once_in(3) {
            return self.resend(random);
        }
        let is_recording = random.once_in(4);
        let table = if is_recording {
            TableKind::Recordings
        } else {
            TableKind::Events
        };
        let ids: Vec<u64> = (0..random.below(4))
            .map(|_| self.some_id(table, random))
            .collect();
        let attempt = Attempt {
            has_rejected: ids.is_empty() || random.once_in(3),
            ids,
            table,
            // gRPC takes no recordings.
            at_table: !is_recording && random.once_in(6),
            filler_bytes: usize::try_from(random.below(MAX_FILLER_BYTES)).unwrap_or(0),
            acknowledged: false,
        };
        self.send(attempt)
    }

    /// A request that was not answered, if there is one left.
    pub(super) fn next_unanswered(&mut self, random: &mut Random) -> Option<(u64, Submission)> {
        (!self.to_send_again.is_empty()).then(|| self.resend(random))
    }

    fn resend(&mut self, random: &mut Random) -> (u64, Submission) {
        let index = random.below(self.to_send_again.len() as u64);
        let number = self
            .to_send_again
            .swap_remove(usize::try_from(index).unwrap_or(0));
        let attempt = self.attempts[index_of(number)].clone();
        self.send(attempt)
    }

    fn some_id(&mut self, table: TableKind, random: &mut Random) -> u64 {
        let next_id = &mut self.next_id[table];
        let id = if *next_id > 0 && random.once_in(5) {
            *next_id - 1 - random.below(RECENT_IDS.min(*next_id))
        } else {
            *next_id += 1;
            *next_id - 1
        };
        if table == TableKind::Recordings {
            SNAPSHOT | id
        } else {
            id
        }
    }

    fn send(&mut self, attempt: Attempt) -> (u64, Submission) {
        let number = self.attempts.len() as u64;
        for id in &attempt.ids {
            self.ids.entry(*id).or_default();
        }
        let submission = attempt.submission(number);
        self.attempts.push(attempt);
        self.open.insert(number);
        (number, submission)
    }

    /// Takes an answer; true if it says that the events are in the table.
    pub(super) fn answered(&mut self, number: u64, completion: &Completion) -> bool {
        assert!(self.open.remove(&number), "one answer a request (ACK-2)");
        let attempt = &mut self.attempts[index_of(number)];
        let events = attempt.ids.len() + usize::from(attempt.has_rejected);
        match completion {
            Completion::Refused(_) => {
                self.to_send_again.push(number);
                return false;
            }
            Completion::Stored(summary) => {
                let told = summary.accepted + summary.duplicates + summary.rejected;
                assert_eq!(told as usize, events, "one outcome an event (ACK-2)");
                assert_eq!(summary.rejected == 1, attempt.has_rejected);
            }
            Completion::Appended(_) | Completion::Results { .. } => {}
        }
        attempt.acknowledged = true;
        for id in &attempt.ids {
            self.ids.insert(*id, true);
        }
        attempt.at_table
    }

    /// The process is gone: whoever waits will send again, or not at all.
    pub(super) fn process_died(&mut self, random: &mut Random) {
        for number in std::mem::take(&mut self.open) {
            if !random.once_in(4) {
                self.to_send_again.push(number);
            }
        }
    }

    pub(super) fn nothing_open(&self) -> bool {
        self.open.is_empty() && self.to_send_again.is_empty()
    }

    pub(super) fn acknowledged_events(&self) -> u64 {
        self.ids
            .values()
            .filter(|acknowledged| **acknowledged)
            .count() as u64
    }

    /// The table and the uuids of a request, and the mark of its refused event.
    pub(super) fn texts_of(&self, number: u64) -> (TableKind, Vec<String>, Option<String>) {
        let attempt = &self.attempts[index_of(number)];
        let uuids = attempt.ids.iter().map(|id| uuid(*id)).collect();
        let mark = attempt.has_rejected.then(|| mark(number));
        (attempt.table, uuids, mark)
    }

    /// Holds all rows of the tables against what was told.
    pub(super) fn check(&self, rows: &ByTable<Vec<String>>) {
        let stored = count(&rows[TableKind::Events]);
        let snapshots = count(&rows[TableKind::Recordings]);
        for (id, acknowledged) in &self.ids {
            let (stored, other) = if id & SNAPSHOT == 0 {
                (&stored, &snapshots)
            } else {
                (&snapshots, &stored)
            };
            let uuid = uuid(*id);
            assert!(!other.contains_key(&uuid), "event {id} is in another table");
            let times = stored.get(&uuid).copied().unwrap_or(0);
            if *acknowledged {
                assert_eq!(times, 1, "event {id} was acknowledged (TAB-1)");
            } else {
                assert!(times <= 1, "event {id} is there {times} times (DUP-1)");
            }
        }
        let all = stored.len() + snapshots.len();
        assert!(all <= self.ids.len(), "rows that nobody sent");
        let stored = count(&rows[TableKind::Rejected]);
        for (number, attempt) in self.attempts.iter().enumerate() {
            let mark = mark(number as u64);
            let times = stored
                .iter()
                .filter(|(raw, _)| raw.contains(&mark))
                .map(|(_, times)| *times)
                .sum::<usize>();
            let wanted = usize::from(attempt.has_rejected);
            if attempt.acknowledged {
                assert_eq!(times, wanted, "refused event of request {number}");
            } else {
                assert!(times <= wanted, "refused event of request {number}");
            }
        }
    }
}

impl Attempt {
    fn submission(&self, number: u64) -> Submission {
        if self.table == TableKind::Recordings {
            return http(Endpoint::Recordings, self.snapshots(number));
        }
        let filler = "x".repeat(self.filler_bytes);
        let mut events: Vec<String> = self
            .ids
            .iter()
            .map(|id| {
                let uuid = uuid(*id);
                format!(
                    r#"{{"event":"e","distinct_id":"d","uuid":"{uuid}","timestamp":"2026-01-0{}T00:00:00Z","properties":{{"filler":"{filler}"}}}}"#,
                    1 + id % 3
                )
            })
            .collect();
        if self.has_rejected {
            let mark = mark(number);
            events.push(format!(r#"{{"event":"","distinct_id":"{mark}"}}"#));
        }
        let body = format!(r#"{{"api_key":"phc_test","batch":[{}]}}"#, events.join(","));
        if self.at_table {
            return append_at_table(&body);
        }
        http(Endpoint::Batch, body)
    }

    /// The body of an upload of session replay.
    fn snapshots(&self, number: u64) -> String {
        let filler = "x".repeat(self.filler_bytes);
        let mut snapshots: Vec<String> = self
            .ids
            .iter()
            .map(|id| {
                let uuid = uuid(*id);
                format!(
                    r#"{{"event":"$snapshot","distinct_id":"d","uuid":"{uuid}","timestamp":"2026-01-0{}T00:00:00Z","properties":{{"token":"phc_test","$session_id":"s-{}","$snapshot_data":["{filler}"]}}}}"#,
                    1 + id % 3,
                    id % 2,
                )
            })
            .collect();
        if self.has_rejected {
            let mark = mark(number);
            snapshots.push(format!(
                r#"{{"event":"$snapshot","distinct_id":"{mark}","properties":{{"token":"phc_test","$snapshot_data":[]}}}}"#
            ));
        }
        format!("[{}]", snapshots.join(","))
    }
}

fn http(endpoint: Endpoint, body: String) -> Submission {
    Submission::Http {
        body: Payload::new(body.into_bytes()),
        endpoint,
        coding: penstock_model::Coding::Unspecified,
        sent_at_us: None,
        client_address: None,
    }
}

/// A serialized `AppendRequest` with body and `ack = TABLE`.
fn append_at_table(body: &str) -> Submission {
    let mut message = vec![3 << 3 | 2];
    let mut len = body.len();
    while len >= 0x80 {
        message.push(u8::try_from(len & 0x7f | 0x80).unwrap());
        len >>= 7;
    }
    message.push(u8::try_from(len).unwrap());
    message.extend_from_slice(body.as_bytes());
    message.extend_from_slice(&[5 << 3, 3]);
    Submission::Append {
        message: Payload::new(message),
        metadata_token: None,
        client_address: None,
    }
}

fn index_of(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn uuid(id: u64) -> String {
    format!("01890a5d-ac96-774b-bcce-{id:012x}")
}

fn mark(number: u64) -> String {
    format!("refused-{number:08}")
}

fn count(rows: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.clone()).or_default() += 1;
    }
    counts
}
