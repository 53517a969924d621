//! Records that can't be built, and replays that are cut short.

use std::path::Path;

use penstock_disk::FaultyFilesystem;
use penstock_model::{AckLevel, Coding, DecodeLimits, Endpoint, SystemClock};

use penstock_segment::TableKind;

use super::*;
use crate::{Engine, EngineOptions, Submission};

/// A project whose records make building panic.
pub(super) const POISON: &str = "phc_poison";

#[test]
fn a_table_never_goes_back_in_what_it_has_passed() {
    // TAB-1: a replay that is cut short names less than the table has.
    let lane = LaneId::from_bytes([1; 16]);
    let at = |position| CutLane {
        lane,
        position: Position::new(position),
    };
    let mut passed = Passed::default();
    passed.advance(TableKind::Events, at(12_000));
    passed.advance(TableKind::Events, at(8_000));
    let wanting = |position| passed.wanting(lane, Position::new(position));
    assert!(!wanting(12_000)[TableKind::Events]);
    assert!(wanting(12_001)[TableKind::Events]);
    assert!(wanting(1)[TableKind::Rejected]);
}

#[test]
fn a_record_that_cannot_be_built_is_set_aside_and_the_others_are_stored() {
    let options = EngineOptions {
        data_directory: Path::new("/data").to_path_buf(),
        flush_interval: Duration::from_hours(1),
        dedup_window: Duration::ZERO,
        dedup_memory_bytes: 0,
        dedup_disk_bytes: 0,
        limits: DecodeLimits::DEFAULT,
        max_recording_bytes: 8 << 20,
        max_in_flight_bytes: 8 << 20,
        max_wal_bytes: 64 << 20,
        wal_file_bytes: 64 << 10,
        max_group_bytes: 1 << 20,
        batch_cache_bytes: 1 << 20,
        segment: crate::segment_options(8 << 20, 8),
        decode_threads: 1,
        max_unnamed_projects: 10,
        disk_reserve_bytes: 0,
        ack: AckLevel::Disk,
        allowed_ack: vec![AckLevel::Disk],
        table_ack_timeout: Duration::from_secs(1),
        discard_client_ip: false,
        projects: Vec::new(),
    };
    let filesystem = FaultyFilesystem::new();
    let clock = Arc::new(SystemClock::new());
    let engine: Engine<()> = Engine::open(options, Arc::new(filesystem.clone()), clock).unwrap();
    engine.start(&[]).unwrap();
    for number in 0..11 {
        let token = if number == 6 { POISON } else { "phc_good" };
        let body = format!(r#"{{"api_key":"{token}","event":"e","distinct_id":"d"}}"#);
        let submission = Submission::Http {
            body: Payload::new(body.into_bytes()),
            endpoint: Endpoint::E,
            coding: Coding::Unspecified,
            sent_at_us: None,
            client_address: None,
            user_agent: None,
        };
        engine.submit((), submission).unwrap();
    }
    while engine.backlog().0 < 11 {
        std::thread::yield_now();
    }
    let mut rows = 0;
    while engine.backlog().0 > 0 {
        engine.flush();
        if let Some(cut) = engine.next_cut(Duration::from_millis(10)) {
            rows += cut.files.iter().map(|file| file.rows).sum::<u64>();
            let tables = TableKind::ALL;
            engine.cut_committed(cut.position, &tables, b"").unwrap();
        }
    }
    assert_eq!(rows, 10);
    let (total, difference) = engine.shared.ledger.look();
    assert_eq!(total.received().accepted, 11);
    assert_eq!(total.aside().accepted, 1);
    assert_eq!(difference, 0);
    let quarantine = Path::new("/data/wal/quarantine");
    assert_eq!(filesystem.read_dir(quarantine).unwrap().len(), 1);
}
