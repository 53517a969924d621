//! What clients send.

use penstock_disk::Random;
use penstock_model::{Coding, Endpoint, Payload};

use crate::answer::Submission;

/// Marks the ids of snapshots of session replay: those are sent by their own endpoint, as SDKs do.
pub(super) const SNAPSHOT: u64 = 1 << 44;

/// Marks the ids of events of cookieless mode, whose visitors get ids before the log.
pub(super) const VISITOR: u64 = 1 << 45;

/// How safe a request's answer says that its events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Memory,
    Disk,
    Table,
}

/// One request. Sent again, it is another one with the same events.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Of its events, which a client made and sends again with the same id.
    pub(super) ids: Vec<u64>,
    /// Snapshots of session replay, not events.
    pub(super) is_recording: bool,
    /// Whether a refused event rides along, marked by the request's number.
    pub(super) has_rejected: bool,
    pub(super) level: Level,
    pub(super) filler_bytes: usize,
    /// It comes at a time by the wall clock that no table can hold, so that its record goes to
    /// quarantine.
    pub(super) unstorable: bool,
}

impl Request {
    /// Accepted events alone, at `disk`.
    pub(super) fn of(ids: impl IntoIterator<Item = u64>) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            is_recording: false,
            has_rejected: false,
            level: Level::Disk,
            filler_bytes: 0,
            unstorable: false,
        }
    }

    /// Snapshots of session replay instead of events.
    pub(super) fn recorded(mut self) -> Self {
        self.is_recording = true;
        for id in &mut self.ids {
            *id |= SNAPSHOT;
        }
        self
    }

    pub(super) fn with_rejected(mut self) -> Self {
        self.has_rejected = true;
        self
    }

    pub(super) fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    pub(super) fn filled(mut self, bytes: usize) -> Self {
        self.filler_bytes = bytes;
        self
    }

    pub(super) fn unstorable(mut self) -> Self {
        self.unstorable = true;
        self
    }

    pub(super) fn some(
        ids: Vec<u64>,
        is_recording: bool,
        max_filler_bytes: u64,
        random: &mut Random,
    ) -> Self {
        let may_be_unstorable = ids.iter().all(|id| id & VISITOR == 0);
        Self {
            has_rejected: ids.is_empty() || random.once_in(3),
            ids,
            is_recording,
            level: match random.below(12) {
                // gRPC takes no recordings.
                _ if is_recording => Level::Disk,
                0 => Level::Memory,
                1 | 2 => Level::Table,
                _ => Level::Disk,
            },
            filler_bytes: usize::try_from(random.below(max_filler_bytes)).unwrap(),
            // What comes at such a time is on no day that visitors are told apart of.
            unstorable: may_be_unstorable && random.once_in(25),
        }
    }

    pub(super) fn events(&self) -> usize {
        self.ids.len() + usize::from(self.has_rejected)
    }

    /// The request under its number: HTTP at `disk`, else gRPC.
    pub(super) fn submission(&self, number: u64) -> Submission {
        if self.is_recording {
            return http(Endpoint::Recordings, self.snapshots(number));
        }
        let filler = "x".repeat(self.filler_bytes);
        let mut events: Vec<String> = self
            .ids
            .iter()
            .map(|id| {
                let uuid = uuid(*id);
                if id & VISITOR != 0 {
                    return visit(&uuid, &filler);
                }
                // Three days: three partitions.
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
        match self.level {
            Level::Memory => append_at(&body, 1),
            Level::Table => append_at(&body, 3),
            Level::Disk => http(Endpoint::Batch, body),
        }
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

/// An event of cookieless mode, of the day on which it comes.
fn visit(uuid: &str, filler: &str) -> String {
    format!(
        r#"{{"event":"e","distinct_id":"$posthog_cookieless","uuid":"{uuid}","properties":{{"$cookieless_mode":true,"$raw_user_agent":"{SECRET}","$ip":"{SECRET}","$host":"example.com","filler":"{filler}"}}}}"#
    )
}

/// What a visitor is told apart by; it must be found in no row.
pub(super) const SECRET: &str = "personal";

fn http(endpoint: Endpoint, body: String) -> Submission {
    Submission::Http {
        body: Payload::new(body.into_bytes()),
        endpoint,
        coding: Coding::Unspecified,
        sent_at_us: None,
        client_address: None,
        user_agent: None,
    }
}

/// A serialized `AppendRequest` with body and ack level.
fn append_at(body: &str, level: u8) -> Submission {
    let mut message = vec![3 << 3 | 2];
    let mut len = body.len();
    while len >= 0x80 {
        message.push(u8::try_from(len & 0x7f | 0x80).unwrap());
        len >>= 7;
    }
    message.push(u8::try_from(len).unwrap());
    message.extend_from_slice(body.as_bytes());
    message.extend_from_slice(&[5 << 3, level]);
    Submission::Append {
        message: Payload::new(message),
        metadata_token: None,
        client_address: None,
    }
}

const UUID: &str = "01890a5d-ac96-774b-bcce-";
const MARK: &str = "refused-";

pub(super) fn uuid(id: u64) -> String {
    format!("{UUID}{id:012x}")
}

fn mark(number: u64) -> String {
    format!("{MARK}{number:08}")
}

/// The id that such a uuid was made of.
pub(super) fn id_of(uuid: &str) -> u64 {
    let digits = uuid.strip_prefix(UUID).expect("a row that somebody sent");
    u64::from_str_radix(digits, 16).unwrap()
}

/// The number of the request to which a refused event belongs.
pub(super) fn number_of(raw: &str) -> u64 {
    let (_, behind) = raw.split_once(MARK).expect("a row that somebody sent");
    behind.get(..8).unwrap().parse().unwrap()
}
