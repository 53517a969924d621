//! Storage that fails: what is refused, what is said, and how it goes on.

use std::sync::Arc;

use penstock_disk::{Crash, Fault, FaultyFilesystem, Operation};
use penstock_engine::{Completion, EngineOptions, EngineState, TableKind};
use penstock_model::{Code, Refusal};

use crate::support::{Opened, batch, nap, options, rows, uuid, v1_batch};

const MIB: u64 = 1 << 20;

/// On a [`FaultyFilesystem`], which is memory.
fn in_memory() -> EngineOptions {
    options(std::path::Path::new("/data"))
}

/// Posts until the engine takes requests again.
fn post_until_stored(opened: &Opened, body: &str) -> penstock_engine::SubmitSummary {
    loop {
        match opened.post(body) {
            Completion::Stored(summary) => return summary,
            Completion::Refused(refusal) => {
                assert!(
                    matches!(refusal.code, Code::StorageFailed | Code::DiskFull),
                    "{refusal:?}"
                );
                nap();
            }
            other => unreachable!("it was posted to /batch: {other:?}"),
        }
    }
}

/// Posts events with the ids 2, 3 and so on, failing a sync under each, until one is refused; gives
/// the id of that one. Those before it are stored: the fault may also meet a file that is being
/// prepared.
fn refused_by_a_failed_sync(opened: &Opened, filesystem: &FaultyFilesystem) -> u32 {
    for number in 2..100 {
        filesystem.fail_nth(Operation::Sync, 0, Fault::Io);
        match opened.post(&batch(&[&uuid(number)])) {
            Completion::Refused(refusal) => {
                assert_eq!(refusal.code, Code::StorageFailed);
                return number;
            }
            Completion::Stored(_) => filesystem.heal(),
            other => unreachable!("it was posted to /batch: {other:?}"),
        }
    }
    panic!("no failed sync met a group");
}

#[test]
fn a_failed_sync_refuses_its_group_and_the_retry_is_stored_once() {
    // ACK-1, DUP-1: an id that stayed in the window would make the retry a duplicate of nothing.
    let filesystem = FaultyFilesystem::new();
    let opened = Opened::open_on(in_memory(), Arc::new(filesystem.clone())).started();
    opened.stored(&batch(&[&uuid(1)]));
    let refused = refused_by_a_failed_sync(&opened, &filesystem);
    let summary = post_until_stored(&opened, &batch(&[&uuid(1), &uuid(refused)]));
    assert_eq!((summary.accepted, summary.duplicates), (1, 1));
    assert_eq!(opened.engine.state().state, EngineState::Ready);
    assert_eq!(rows(&opened.cut(), TableKind::Events), u64::from(refused));
}

#[test]
fn a_storage_that_keeps_failing_is_reported_until_it_is_well_again() {
    let filesystem = FaultyFilesystem::new();
    let opened = Opened::open_on(in_memory(), Arc::new(filesystem.clone())).started();
    opened.stored(&batch(&[&uuid(1)]));
    filesystem.fail_all(Operation::Sync, Fault::Io);
    assert_eq!(
        opened.refused(&batch(&[&uuid(2)])).code,
        Code::StorageFailed
    );
    let report = opened.engine.state();
    assert_eq!(
        (report.state, report.reason),
        (EngineState::Degraded, "storage_failed")
    );
    assert_eq!(
        opened.refused(&batch(&[&uuid(2)])).code,
        Code::StorageFailed
    );
    filesystem.heal();
    let summary = post_until_stored(&opened, &batch(&[&uuid(2)]));
    assert_eq!(summary.accepted, 1);
}

#[test]
fn what_was_refused_by_a_failed_sync_does_not_come_back_after_a_crash() {
    let filesystem = FaultyFilesystem::new();
    let opened = Opened::open_on(in_memory(), Arc::new(filesystem.clone())).started();
    opened.stored(&batch(&[&uuid(1)]));
    let refused = refused_by_a_failed_sync(&opened, &filesystem);
    post_until_stored(&opened, &batch(&[&uuid(1_000)]));
    drop(opened);
    filesystem.crash(Crash::LoseUnsynced);

    let opened = Opened::open_on(in_memory(), Arc::new(filesystem.clone())).started();
    let summary = opened.stored(&batch(&[&uuid(1), &uuid(refused), &uuid(1_000)]));
    assert_eq!((summary.accepted, summary.duplicates), (1, 2));
}

/// Posts requests of capture v1 with the ids that `body` makes of a number, and fails a sync under
/// each, until one is answered as `wanted`: a fault may also meet a file that is being prepared.
fn post_v1_until(
    wanted: impl Fn(&Completion) -> bool,
    opened: &Opened,
    filesystem: &FaultyFilesystem,
    stored: &mut u64,
    body: impl Fn(u32) -> String,
) -> (u32, Completion) {
    for number in 0..100 {
        // Takes requests again.
        post_until_stored(
            opened,
            &batch(&[&uuid(1_000_000 + u32::try_from(*stored).unwrap())]),
        );
        *stored += 1;
        filesystem.fail_nth(Operation::Sync, 0, Fault::Io);
        let told = opened.post_v1(&body(number));
        if wanted(&told) {
            return (number, told);
        }
        *stored += u64::from(matches!(told, Completion::Results { retry: None, .. }));
        filesystem.heal();
    }
    panic!("no failed sync is answered as it should be");
}

#[test]
fn what_is_final_in_a_request_of_capture_v1_is_said_although_the_log_fails() {
    let filesystem = FaultyFilesystem::new();
    let opened = Opened::open_on(in_memory(), Arc::new(filesystem.clone())).started();
    let mut stored = 0;
    let partly = |number| v1_batch(&[(&uuid(2 * number), "e"), (&uuid(2 * number + 1), "")]);
    let said = |told: &Completion| matches!(told, Completion::Results { retry: Some(_), .. });
    let (number, told) = post_v1_until(said, &opened, &filesystem, &mut stored, partly);
    let Completion::Results { text, retry } = told else {
        unreachable!("it was wanted so")
    };
    assert_eq!(
        String::from_utf8(text).unwrap(),
        format!(
            r#"{{"results":{{"{}":{{"result":"retry","details":"not_persisted"}},"{}":{{"result":"drop","details":"missing_event_name"}}}}}}"#,
            uuid(2 * number),
            uuid(2 * number + 1)
        )
    );
    assert_eq!(retry, Some(Code::StorageFailed));

    // Nothing final: refused as a whole.
    let whole = |number| v1_batch(&[(&uuid(10_000 + number), "e")]);
    let refused = |told: &Completion| matches!(told, Completion::Refused(_));
    let (again, told) = post_v1_until(refused, &opened, &filesystem, &mut stored, whole);
    assert_eq!(
        told,
        Completion::Refused(Refusal::new(Code::StorageFailed, ""))
    );

    // What was to be sent again is no duplicate when it comes.
    post_until_stored(&opened, &batch(&[&uuid(9_999_999)]));
    opened.v1_results(&partly(number));
    opened.v1_results(&whole(again));
    assert_eq!(rows(&opened.cut(), TableKind::Events), stored + 3);
}

#[test]
fn a_full_disk_is_said_and_what_was_acknowledged_still_gets_into_the_tables() {
    let filesystem = FaultyFilesystem::new();
    let options = EngineOptions {
        disk_reserve_bytes: 4 * MIB,
        ..in_memory()
    };
    let opened = Opened::open_on(options, Arc::new(filesystem.clone())).started();
    opened.stored(&batch(&[&uuid(1)]));
    // Full but for less than the next log file needs.
    let used = 64 * MIB - filesystem_free(&filesystem);
    filesystem.set_capacity_bytes(Some(used + 16 * 1024));
    let filler = "x".repeat(40_000);
    let mut number = 100;
    let code = loop {
        let body = format!(
            r#"{{"api_key":"phc_test","event":"e","distinct_id":"d","uuid":"{}","properties":{{"f":"{filler}"}}}}"#,
            uuid(number)
        );
        match opened.post(&body) {
            Completion::Stored(_) => number += 1,
            Completion::Refused(refusal) => break refusal.code,
            other => unreachable!("it was posted to /batch: {other:?}"),
        }
        assert!(number < 1_000, "the disk is never full");
    };
    assert_eq!(code, Code::DiskFull);
    assert_eq!(opened.engine.state().reason, "disk_full");
    // The reserve makes room for the cut.
    let cut = opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), u64::from(number - 100) + 1);
    opened.commit(&cut);
    // It goes on by itself when there is room again, and only then.
    assert_eq!(opened.engine.state().reason, "disk_full");
    filesystem.set_capacity_bytes(None);
    let summary = post_until_stored(&opened, &batch(&[&uuid(2)]));
    assert_eq!(summary.accepted, 1);
}

fn filesystem_free(filesystem: &FaultyFilesystem) -> u64 {
    use penstock_disk::Filesystem as _;
    filesystem.set_capacity_bytes(Some(64 * MIB));
    filesystem
        .free_bytes(std::path::Path::new("/data"))
        .unwrap()
}
