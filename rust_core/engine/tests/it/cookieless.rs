//! Cookieless mode from request to log and cut: ids that stay for a day, and nothing else that does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use penstock_disk::{Crash, Fault, FaultyFilesystem, Filesystem, Operation, RealFilesystem};
use penstock_engine::{
    Completion, Engine, EngineOptions, LogInspector, ProjectOptions, Submission, SubmitSummary,
    TableKind,
};
use penstock_model::{Clock as _, Code, Coding, Endpoint, ManualClock, Payload, Position};

use crate::support::{Opened, append_message, committed, nap, options, rows, uuid, v1};

/// 2026-01-05T12:00:00Z.
const NOON: i64 = 1_767_614_400_000_000;
const HOUR: Duration = Duration::from_hours(1);
const ADDRESS: [u8; 4] = [203, 0, 113, 9];

const PROPERTIES: &str =
    r#""$cookieless_mode":true,"$raw_user_agent":"Mozilla/5.0","$host":"www.example.com""#;

fn visit(id: u32) -> String {
    format!(
        r#"{{"event":"e","distinct_id":"$posthog_cookieless","uuid":"{}","properties":{{{PROPERTIES}}}}}"#,
        uuid(id)
    )
}

fn from(address: [u8; 4], token: &str, events: &str) -> Submission {
    Submission::Http {
        body: Payload::new(format!(r#"{{"api_key":"{token}","batch":[{events}]}}"#).into_bytes()),
        endpoint: Endpoint::Batch,
        coding: Coding::Unspecified,
        sent_at_us: None,
        client_address: Some(address.into()),
        user_agent: None,
    }
}

struct Service {
    opened: Opened,
    clock: Arc<ManualClock>,
}

impl Service {
    fn open(
        options: EngineOptions,
        filesystem: Arc<dyn Filesystem>,
        clock: &Arc<ManualClock>,
    ) -> Self {
        let engine = Engine::open(options, filesystem, Arc::clone(clock) as Arc<_>).unwrap();
        Self {
            opened: Opened { engine }.started(),
            clock: Arc::clone(clock),
        }
    }

    fn on(folder: &Path, clock: &Arc<ManualClock>) -> Self {
        Self::open(options(folder), RealFilesystem::shared(), clock)
    }

    fn send(&self, submission: Submission) -> Completion {
        self.opened.engine.submit(1, submission).unwrap();
        self.opened.wait_one().1
    }

    fn stored(&self, events: &str) -> SubmitSummary {
        match self.send(from(ADDRESS, "phc_test", events)) {
            Completion::Stored(summary) => summary,
            other => panic!("{other:?}"),
        }
    }
}

fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOON))
}

/// What the log has of each record: its text, and who is in it.
fn records(folder: &Path) -> Vec<(String, Vec<String>)> {
    let mut log = LogInspector::open(folder, Position::ZERO, Position::new(u64::MAX)).unwrap();
    let mut found = Vec::new();
    while let Some(records) = log.next_records(true).unwrap() {
        for record in records {
            assert_eq!(record.problem, None);
            assert_eq!(record.client_address(), None);
            let text = String::from_utf8(record.text().unwrap()).unwrap();
            let events = record.accepted_events().unwrap();
            let persons = events.into_iter().map(|event| event.distinct_id);
            found.push((text, persons.collect()));
        }
    }
    found
}

/// The visitors of all records, in order.
fn visitors(folder: &Path) -> Vec<String> {
    records(folder)
        .into_iter()
        .flat_map(|(_, persons)| persons)
        .collect()
}

fn salts(folder: &Path) -> Vec<String> {
    let names = RealFilesystem.read_dir(&folder.join("cookieless"));
    let names = names.unwrap_or_default().into_iter();
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn one_visitor_has_one_id_whichever_way_the_events_come() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::on(folder.path(), &noon());
    assert_eq!(service.stored(&visit(1)).accepted, 1);
    let with_ip = |id| visit(id).replace("true", r#"true,"$ip":"203.0.113.9""#);
    let of_v1 = with_ip(2)
        .replace(r#""$cookieless_mode":true,"#, "")
        .replace(
            "\"properties\"",
            r#""timestamp":"2026-01-05T11:00:00Z","options":{"cookieless_mode":true},"properties""#,
        );
    let envelope = format!(r#"{{"created_at":"2026-01-05T11:00:00Z","batch":[{of_v1}]}}"#);
    let Submission::V1 {
        body,
        endpoint,
        mut head,
        ..
    } = v1(&envelope)
    else {
        unreachable!()
    };
    head.sent_at_us = NOON;
    let Completion::Results { text, .. } = service.send(Submission::V1 {
        body,
        endpoint,
        head,
        client_address: Some([198, 51, 100, 1].into()),
    }) else {
        panic!("it is stored")
    };
    assert!(
        String::from_utf8(text)
            .unwrap()
            .contains(r#""result":"ok""#)
    );
    let by_grpc = format!("[{}]", with_ip(3));
    let answer = service.send(append_message("phc_test", &by_grpc));
    assert!(matches!(answer, Completion::Appended(_)));

    let records = records(folder.path());
    assert_eq!(records.len(), 3);
    let first = records[0].1[0].clone();
    assert!(first.starts_with("cookieless_"), "{first}");
    for (text, persons) in records {
        assert_eq!(persons, [first.as_str()]);
        for secret in [
            "203.0.113.9",
            "198.51.100.1",
            "Mozilla",
            "$posthog_cookieless",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(salts(folder.path()), ["2026-01-05.salt"]);
    assert_eq!(rows(&service.opened.cut(), TableKind::Events), 3);
}

#[test]
fn addresses_and_projects_have_visitors_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let project = |name: &str, tokens: &[&str], discard_client_ip| ProjectOptions {
        name: name.to_owned(),
        tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
        ack: None,
        discard_client_ip,
    };
    let options = EngineOptions {
        projects: vec![
            project("shop", &["phc_a", "phc_b"], None),
            // Where no address may be stored, it still tells visitors apart.
            project("blog", &["phc_c"], Some(true)),
        ],
        ..options(folder.path())
    };
    let service = Service::open(options, RealFilesystem::shared(), &noon());
    for (id, address, token) in [
        (1, ADDRESS, "phc_a"),
        (2, [203, 0, 113, 10], "phc_a"),
        (3, ADDRESS, "phc_b"),
        (4, ADDRESS, "phc_c"),
        (5, [203, 0, 113, 10], "phc_c"),
    ] {
        service.send(from(address, token, &visit(id)));
    }
    let found = visitors(folder.path());
    assert_eq!(found.len(), 5);
    assert_eq!(found[0], found[2]);
    let mut different = found.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 4);
}

#[test]
fn a_refused_event_is_told_and_its_neighbours_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::on(folder.path(), &noon());
    let without_agent = visit(1).replace("$raw_user_agent", "$x");
    let late = visit(2).replace(
        "\"properties\"",
        r#""timestamp":"2026-01-01T00:00:00Z","properties""#,
    );
    let summary = service.stored(&[without_agent, late, visit(3)].join(","));
    assert_eq!((summary.accepted, summary.rejected), (1, 2));
    assert_eq!(
        summary.first_rejection,
        Some((0, Code::CookielessMissingUserAgent))
    );
    let cut = service.opened.cut();
    assert_eq!(rows(&cut, TableKind::Rejected), 2);
    assert_eq!(visitors(folder.path()).len(), 1);
}

/// The ids of a day are those of its salt, which a restart finds; what a replay builds has them too.
#[test]
fn a_restart_in_the_middle_of_a_day_changes_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let clock = noon();
    let service = Service::on(folder.path(), &clock);
    service.stored(&visit(1));
    drop(service);
    clock.advance(HOUR);
    let service = Service::on(folder.path(), &clock);
    service.stored(&visit(2));
    // Sent again, from where the client is now: its id is known, also after the restart.
    let again = service.send(from([198, 51, 100, 7], "phc_test", &visit(1)));
    let Completion::Stored(summary) = again else {
        panic!("{again:?}")
    };
    assert_eq!((summary.accepted, summary.duplicates), (0, 1));
    let found = visitors(folder.path());
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    let cut = service.opened.cut();
    assert_eq!(rows(&cut, TableKind::Events), 2);
    service.opened.commit(&cut);
    drop(committed(&cut));
}

#[test]
fn salts_are_deleted_when_no_event_of_their_day_is_taken_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let clock = noon();
    let service = Service::on(folder.path(), &clock);
    service.stored(&visit(1));
    clock.advance(24 * HOUR);
    service.stored(&visit(2));
    assert_eq!(salts(folder.path()), ["2026-01-05.salt", "2026-01-06.salt"]);
    let found = visitors(folder.path());
    assert_ne!(found[0], found[1]);
    // 74 hours after noon the first day is over.
    clock.advance(50 * HOUR);
    let patience = penstock_model::SystemClock::new();
    let is_told = || {
        let logged = service.opened.engine.take_log_events();
        let mut names = logged.iter().map(|event| event.name);
        names.any(|name| name == "cookieless_salts_deleted")
    };
    while !is_told() {
        assert!(
            patience.monotonic_nanos() < 20_000_000_000,
            "it is not deleted"
        );
        nap();
    }
    assert_eq!(salts(folder.path()), ["2026-01-06.salt"]);
    let metrics = service.opened.engine.metrics();
    assert!(metrics.contains("penstock_engine_cookieless_salts 1"));
    assert_eq!(service.clock.unix_micros(), NOON + 74 * 3_600_000_000);
}

/// Nothing is answered as stored under an id that the next start could not give again.
#[test]
fn an_event_waits_for_its_salt_or_is_refused() {
    let filesystem = FaultyFilesystem::new();
    filesystem.create_dir_synced(Path::new("/data")).unwrap();
    let clock = noon();
    let open = || {
        let options = options(Path::new("/data"));
        Service::open(options, Arc::new(filesystem.clone()), &clock)
    };
    let service = open();
    filesystem.fail_nth(Operation::Rename, 0, Fault::Io);
    for _ in 0..2 {
        let answer = service.send(from(ADDRESS, "phc_test", &visit(1)));
        if let Completion::Refused(refusal) = answer {
            assert_eq!(refusal.code, Code::StorageFailed);
        } else {
            assert!(matches!(answer, Completion::Stored(_)), "{answer:?}");
        }
    }
    // Refused once, then stored; and told once.
    let logged = service.opened.engine.take_log_events();
    let told = logged
        .iter()
        .filter(|event| event.name == "cookieless_salt_not_made");
    assert_eq!(told.count(), 1);
    drop(service);
    filesystem.crash(Crash::LoseUnsynced);
    let before = filesystem
        .contents(Path::new("/data/cookieless/2026-01-05.salt"))
        .unwrap();
    let service = open();
    service.stored(&visit(2));
    let after = filesystem
        .contents(Path::new("/data/cookieless/2026-01-05.salt"))
        .unwrap();
    assert_eq!(before, after);
    assert_eq!(rows(&service.opened.cut(), TableKind::Events), 2);
}
