//! An engine on a folder of the test's own, and a caller that commits its cuts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use penstock_disk::{Filesystem, RealFilesystem};
use penstock_engine::{
    Completion, Cut, Engine, EngineOptions, Submission, SubmitSummary, TableKind, V1Head,
};
use penstock_model::{
    AckLevel, Coding, DecodeLimits, Endpoint, LaneId, Payload, Position, Refusal, SystemClock,
};

/// Far beyond what anything here takes; a hang then fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(folder: &Path) -> EngineOptions {
    EngineOptions {
        data_directory: folder.to_path_buf(),
        // Cuts are asked for, so that a test decides when there is one.
        flush_interval: Duration::from_hours(1),
        dedup_window: Duration::from_hours(24),
        dedup_memory_bytes: 8 << 20,
        dedup_disk_bytes: 64 << 20,
        limits: DecodeLimits::DEFAULT,
        max_recording_bytes: 8 << 20,
        max_in_flight_bytes: 8 << 20,
        max_wal_bytes: 64 << 20,
        wal_file_bytes: 64 << 10,
        max_group_bytes: 1 << 20,
        batch_cache_bytes: 1 << 20,
        segment: penstock_engine::segment_options(8 << 20, 8),
        decode_threads: 1,
        max_unnamed_projects: 10,
        disk_reserve_bytes: 0,
        ack: AckLevel::Disk,
        allowed_ack: vec![AckLevel::Disk, AckLevel::Table],
        table_ack_timeout: PATIENCE,
        discard_client_ip: false,
        projects: Vec::new(),
    }
}

pub(crate) struct Opened {
    pub(crate) engine: Engine<u64>,
}

impl Opened {
    pub(crate) fn open(options: EngineOptions) -> Self {
        Self::open_on(options, Arc::new(RealFilesystem))
    }

    pub(crate) fn open_on(options: EngineOptions, filesystem: Arc<dyn Filesystem>) -> Self {
        let engine = Engine::open(options, filesystem, Arc::new(SystemClock::new())).unwrap();
        Self { engine }
    }

    pub(crate) fn started(self) -> Self {
        self.engine.start(&[]).unwrap();
        self
    }

    /// Submits a body and waits for its answer.
    pub(crate) fn post(&self, body: &str) -> Completion {
        self.send(http(body))
    }

    /// The same as a request of capture v1.
    pub(crate) fn post_v1(&self, body: &str) -> Completion {
        self.send(v1(body))
    }

    fn send(&self, submission: Submission) -> Completion {
        match self.engine.submit(7, submission) {
            Ok(()) => {
                let (ticket, completion) = self.wait_one();
                assert_eq!(ticket, 7);
                completion
            }
            Err((_, refusal)) => Completion::Refused(refusal),
        }
    }

    pub(crate) fn wait_one(&self) -> (u64, Completion) {
        let clock = SystemClock::new();
        loop {
            let mut finished = self.engine.drain();
            if let Some(one) = finished.pop() {
                assert!(finished.is_empty(), "one request was under way");
                return one;
            }
            assert!(elapsed(&clock) < PATIENCE, "no answer");
            nap();
        }
    }

    pub(crate) fn stored(&self, body: &str) -> SubmitSummary {
        match self.post(body) {
            Completion::Stored(summary) => summary,
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a request of capture v1 that is stored.
    pub(crate) fn v1_results(&self, body: &str) -> String {
        match self.post_v1(body) {
            Completion::Results { text, retry: None } => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(&self, body: &str) -> Refusal {
        match self.post(body) {
            Completion::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a cut and waits for it.
    pub(crate) fn cut(&self) -> Arc<Cut> {
        self.engine.flush();
        self.engine.next_cut(PATIENCE).expect("a cut was asked for")
    }

    /// Does what the committer does: a table without rows gets a commit only where a file of the
    /// log may go with it.
    pub(crate) fn commit(&self, cut: &Cut) {
        self.engine
            .cut_committed(cut.position, &committed_tables(cut), b"{}")
            .unwrap();
    }
}

fn committed_tables(cut: &Cut) -> Vec<TableKind> {
    let mut tables = TableKind::ALL.to_vec();
    tables.retain(|table| cut.releases || rows(cut, *table) > 0);
    tables
}

fn elapsed(clock: &SystemClock) -> Duration {
    use penstock_model::Clock as _;
    Duration::from_nanos(clock.monotonic_nanos())
}

/// A poll interval of tests.
pub(crate) fn nap() {
    use penstock_model::Clock as _;
    SystemClock::new().sleep(Duration::from_millis(1));
}

pub(crate) fn http(body: &str) -> Submission {
    post(Endpoint::Batch, body)
}

/// An upload of session replay.
pub(crate) fn upload(body: &str) -> Submission {
    post(Endpoint::Recordings, body)
}

fn post(endpoint: Endpoint, body: &str) -> Submission {
    Submission::Http {
        body: Payload::new(body.as_bytes().to_vec()),
        endpoint,
        coding: Coding::Unspecified,
        sent_at_us: None,
        client_address: None,
        user_agent: None,
    }
}

/// A request of capture v1, its headers read.
pub(crate) fn v1(body: &str) -> Submission {
    Submission::V1 {
        body: Payload::new(body.as_bytes().to_vec()),
        endpoint: Endpoint::V1Analytics,
        head: V1Head {
            token: "phc_test".to_owned(),
            sent_at_us: 1_767_225_600_000_000,
            sdk_info: Some("posthog-test/1.2.3".to_owned()),
            coding: Coding::Unspecified,
        },
        client_address: None,
    }
}

/// A body of capture v1: one event per uuid and name.
pub(crate) fn v1_batch(events: &[(&str, &str)]) -> String {
    let events = events.iter().map(|(uuid, name)| {
        format!(
            r#"{{"event":"{name}","distinct_id":"d","uuid":"{uuid}","timestamp":"2026-01-01T00:00:00Z"}}"#
        )
    });
    let events = events.collect::<Vec<_>>().join(",");
    format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{events}]}}"#)
}

/// A body of one event per uuid.
pub(crate) fn batch(uuids: &[&str]) -> String {
    let events: Vec<String> = uuids
        .iter()
        .map(|uuid| {
            format!(r#"{{"event":"e","distinct_id":"d","uuid":"{uuid}","properties":{{}}}}"#)
        })
        .collect();
    format!(r#"{{"api_key":"phc_test","batch":[{}]}}"#, events.join(","))
}

pub(crate) fn uuid(number: u32) -> String {
    format!("01890a5d-ac96-774b-bcce-{number:012x}")
}

pub(crate) fn rows(cut: &Cut, table: TableKind) -> u64 {
    cut.files
        .iter()
        .filter(|file| file.table == table)
        .map(|file| file.rows)
        .sum()
}

/// What the tables say at the next start: everything that the cut's commits covered.
pub(crate) fn committed(cut: &Cut) -> Vec<(TableKind, LaneId, Position)> {
    let mut committed = Vec::new();
    for table in committed_tables(cut) {
        for lane in &cut.lanes {
            committed.push((table, lane.lane, lane.position));
        }
    }
    committed
}

/// A serialized `AppendRequest`.
pub(crate) fn append_message(token: &str, body: &str) -> Submission {
    let mut message = Vec::new();
    for (field, text) in [(1_u8, token), (3, body)] {
        message.push(field << 3 | 2);
        let mut len = text.len();
        while len >= 0x80 {
            message.push(u8::try_from(len & 0x7f | 0x80).unwrap());
            len >>= 7;
        }
        message.push(u8::try_from(len).unwrap());
        message.extend_from_slice(text.as_bytes());
    }
    Submission::Append {
        message: Payload::new(message),
        metadata_token: None,
        client_address: None,
    }
}
