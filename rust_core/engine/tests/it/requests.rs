//! One request: outcomes, duplicates, refusals, ack levels.

use penstock_engine::{Completion, EngineState, TableKind};
use penstock_model::{AckLevel, Code};

use crate::support::{Opened, append_message, batch, http, options, rows, upload, uuid, v1_batch};

#[test]
fn every_event_of_an_answered_request_has_one_outcome() {
    // ACK-2
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let body = format!(
        r#"{{"api_key":"phc_test","batch":[
            {{"event":"good","distinct_id":"d","uuid":"{0}"}},
            {{"event":"","distinct_id":"d"}},
            {{"event":"good","distinct_id":"d","uuid":"{0}"}},
            {{"event":"no id of its own","distinct_id":"d"}}]}}"#,
        uuid(1)
    );
    let summary = opened.stored(&body);
    assert_eq!(
        (summary.accepted, summary.duplicates, summary.rejected),
        (2, 1, 1)
    );
    assert_eq!(summary.first_rejection, Some((1, Code::EmptyEventName)));
    let cut = opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), 2);
    assert_eq!(rows(&cut, TableKind::Rejected), 1);
}

#[test]
fn snapshots_have_outcomes_of_their_own_and_a_table_of_their_own() {
    // ACK-2, DUP-1
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let whole = format!(
        r#"{{"distinct_id":"d","uuid":"{}","properties":{{"token":"phc_test","$session_id":"s","$snapshot_data":[]}}}}"#,
        uuid(1)
    );
    let lacking = r#"{"distinct_id":"d","properties":{"$session_id":"s"}}"#;
    let body = format!("[{whole},{lacking},{whole}]");
    opened.engine.submit(1, upload(&body)).unwrap();
    let (_, Completion::Stored(summary)) = opened.wait_one() else {
        panic!("it is stored")
    };
    assert_eq!(
        (summary.accepted, summary.duplicates, summary.rejected),
        (1, 1, 1)
    );
    let lacks_data = Some((1, Code::MissingSnapshotData));
    assert_eq!(summary.first_rejection, lacks_data);
    opened.stored(&batch(&[&uuid(2)]));
    let cut = opened.cut();
    for table in TableKind::ALL {
        assert_eq!(rows(&cut, table), 1, "{}", table.name());
    }
}

/// A page's first snapshot is one event and can't be split; its tree may nest deep.
#[test]
fn a_snapshot_has_limits_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(penstock_engine::EngineOptions {
        limits: penstock_model::DecodeLimits {
            max_event_bytes: 1_000,
            ..penstock_model::DecodeLimits::DEFAULT
        },
        max_recording_bytes: 10_000,
        ..options(folder.path())
    })
    .started();
    let snapshot = |padding: usize, depth: usize| {
        format!(
            r#"{{"event":"e","api_key":"phc_test","distinct_id":"d","properties":{{"$session_id":"s","$snapshot_data":["{}",{}{}]}}}}"#,
            "x".repeat(padding),
            "[".repeat(depth),
            "]".repeat(depth),
        )
    };
    let outcome = |submission| {
        opened.engine.submit(1, submission).unwrap();
        let (_, Completion::Stored(summary)) = opened.wait_one() else {
            panic!("it is stored")
        };
        summary.first_rejection.map(|(_, code)| code)
    };
    let least = snapshot(0, 1).len();
    assert_eq!(outcome(upload(&snapshot(10_000 - least, 1))), None);
    assert_eq!(
        outcome(upload(&snapshot(10_001 - least, 1))),
        Some(Code::EventTooLarge)
    );
    assert_eq!(
        outcome(http(&snapshot(1_001 - least, 1))),
        Some(Code::EventTooLarge)
    );
    // Three containers are around it.
    assert_eq!(outcome(upload(&snapshot(0, 1_021))), None);
    assert_eq!(
        outcome(upload(&snapshot(0, 1_022))),
        Some(Code::EventTooDeep)
    );
}

#[test]
fn a_repeat_is_a_duplicate_also_when_the_original_is_still_on_its_way() {
    // DUP-1, DUP-3
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let body = batch(&[&uuid(1), &uuid(2)]);
    for _ in 0..20 {
        opened.engine.submit(0, http(&body)).unwrap();
    }
    let (mut accepted, mut duplicates, mut answers) = (0, 0, 0);
    while answers < 20 {
        for (_, completion) in opened.engine.drain() {
            let Completion::Stored(summary) = completion else {
                panic!("{completion:?}")
            };
            accepted += summary.accepted;
            duplicates += summary.duplicates;
            answers += 1;
        }
        crate::support::nap();
    }
    assert_eq!((accepted, duplicates), (2, 38));
    assert_eq!(rows(&opened.cut(), TableKind::Events), 2);
}

#[test]
fn nothing_is_admitted_before_the_start_and_during_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path()));
    assert_eq!(opened.engine.state().state, EngineState::Starting);
    assert_eq!(opened.refused(&batch(&[&uuid(1)])).code, Code::Starting);
    let opened = opened.started();
    opened.stored(&batch(&[&uuid(1)]));
    opened.engine.stop_admission();
    assert_eq!(opened.engine.state().state, EngineState::Draining);
    assert_eq!(opened.refused(&batch(&[&uuid(2)])).code, Code::ShuttingDown);
}

#[test]
fn an_unreadable_body_is_refused_and_not_logged() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    assert_eq!(opened.refused("{\"api_key\":").code, Code::InvalidJson);
    assert_eq!(
        opened.refused(r#"[{"event":"e","distinct_id":"d"}]"#).code,
        Code::MissingToken
    );
    assert_eq!(opened.engine.backlog().0, 0);
}

#[test]
fn a_grpc_message_is_answered_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let submission = append_message("", &batch(&[&uuid(1)]));
    opened.engine.submit(3, submission).unwrap();
    let (ticket, completion) = opened.wait_one();
    assert_eq!(ticket, 3);
    // log_position = 1, reached = disk, accepted = 1
    assert_eq!(completion, Completion::Appended(vec![8, 1, 16, 2, 24, 1]));
}

#[test]
fn capture_v1_is_answered_event_by_event_and_a_retry_as_the_first_time() {
    // ACK-2, DUP-1
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let body = v1_batch(&[(&uuid(2), "good"), (&uuid(1), ""), (&uuid(3), "good")]);
    let expected = format!(
        r#"{{"results":{{"{}":{{"result":"ok"}},"{}":{{"result":"drop","details":"missing_event_name"}},"{}":{{"result":"ok"}}}}}}"#,
        uuid(2),
        uuid(1),
        uuid(3)
    );
    assert_eq!(opened.v1_results(&body), expected);
    assert_eq!(opened.v1_results(&body), expected);
    // The same event by the older protocol is the same event.
    let v0 = format!(
        r#"{{"api_key":"phc_test","event":"good","distinct_id":"d","uuid":"{}"}}"#,
        uuid(2)
    );
    assert_eq!(opened.stored(&v0).duplicates, 1);
    let cut = opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), 2);
    assert_eq!(rows(&cut, TableKind::Rejected), 2);
}

#[test]
fn headers_of_capture_v1_that_are_refused_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let refusal = opened
        .engine
        .check_v1_head(&penstock_engine::RawV1Head::default())
        .unwrap_err();
    assert_eq!(refusal.code, Code::MissingAuthorization);
    let counted = r#"{code="missing_authorization"} 1"#;
    assert!(opened.engine.metrics().contains(counted));
}

#[test]
fn white_space_around_a_grpc_token_is_no_part_of_it() {
    // SEC-1: a token that is checked in one form and written in another once stopped the service.
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::open(options(folder.path())).started();
    let body = r#"{"event":"e","distinct_id":"d"}"#;
    let padded = format!("{}phc_a{}", " ".repeat(300), " ".repeat(300));
    opened
        .engine
        .submit(1, append_message(&padded, body))
        .unwrap();
    assert!(matches!(opened.wait_one().1, Completion::Appended(_)));
    let long = "x".repeat(65);
    let (_, refusal) = opened
        .engine
        .submit(2, append_message(&long, body))
        .unwrap_err();
    assert_eq!(refusal.code, Code::InvalidToken);
    assert_eq!(opened.engine.state().state, EngineState::Ready);
}

#[test]
fn a_request_that_waits_for_the_table_is_answered_by_the_close() {
    // ACK-2: its events are on disk, which is what it is told.
    let folder = tempfile::tempdir().unwrap();
    let options = penstock_engine::EngineOptions {
        ack: AckLevel::Table,
        ..options(folder.path())
    };
    let opened = Opened::open(options).started();
    opened.engine.submit(1, http(&batch(&[&uuid(1)]))).unwrap();
    opened.engine.close();
    let Completion::Refused(refusal) = opened.wait_one().1 else {
        panic!("stored, though no table was reached")
    };
    assert_eq!(refusal.code, Code::TableTimeout);
    assert_eq!(opened.engine.in_flight(), 0);
}

#[test]
fn the_directory_can_be_opened_again_once_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = Opened::open(options(folder.path())).started();
    first.engine.close();
    Opened::open(options(folder.path()));
}

#[test]
fn an_answer_at_table_waits_for_the_commit() {
    // ACK-1
    let folder = tempfile::tempdir().unwrap();
    let options = penstock_engine::EngineOptions {
        ack: AckLevel::Table,
        ..options(folder.path())
    };
    let opened = Opened::open(options).started();
    opened.engine.submit(1, http(&batch(&[&uuid(1)]))).unwrap();
    while opened.engine.backlog().0 == 0 {
        crate::support::nap();
    }
    assert!(
        opened.engine.drain().is_empty(),
        "answered before the commit"
    );
    let cut = opened.cut();
    assert!(
        opened.engine.drain().is_empty(),
        "answered before the commit"
    );
    opened.commit(&cut);
    assert!(matches!(opened.wait_one().1, Completion::Stored(_)));
}
