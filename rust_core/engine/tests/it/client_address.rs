//! Projects that store no client's address: none is in the log, in whichever form it came.

use std::path::Path;

use penstock_engine::{
    Completion, EngineOptions, LogInspector, ProjectOptions, Submission, TableKind,
};
use penstock_model::{Coding, Endpoint, Payload, Position};
use std::net::IpAddr;

use crate::support::{Opened, append_message, options, rows, upload, uuid, v1};

fn projects(folder: &Path) -> EngineOptions {
    let project = |name: &str, discard_client_ip| ProjectOptions {
        name: name.to_owned(),
        tokens: vec![format!("phc_{name}")],
        ack: None,
        discard_client_ip,
    };
    EngineOptions {
        projects: vec![
            project("test", None),
            project("keeps", Some(false)),
            project("discards", Some(true)),
        ],
        ..options(folder)
    }
}

const ADDRESS: [u8; 4] = [203, 0, 113, 9];

fn from_client(token: &str) -> Submission {
    let body = format!(
        r#"{{"api_key":"{token}","batch":[{{"event":"e","distinct_id":"d","uuid":"{}","properties":{{"$ip":"203.0.113.9","a":1}}}},
            {{"event":"","distinct_id":"d","properties":{{"\u0024ip":"203.0.113.9"}}}}]}}"#,
        uuid(1)
    );
    Submission::Http {
        body: Payload::new(body.into_bytes()),
        endpoint: Endpoint::Batch,
        coding: Coding::Unspecified,
        sent_at_us: None,
        client_address: Some(ADDRESS.into()),
        user_agent: None,
    }
}

fn stored(opened: &Opened, submission: Submission) {
    opened.engine.submit(1, submission).unwrap();
    let (_, completion) = opened.wait_one();
    let fine = matches!(
        completion,
        Completion::Stored(_) | Completion::Results { retry: None, .. } | Completion::Appended(_)
    );
    assert!(fine, "{completion:?}");
}

/// The text of each record of the log, and the client that it names.
fn records(folder: &Path) -> Vec<(String, Option<IpAddr>)> {
    let mut log = LogInspector::open(folder, Position::ZERO, Position::new(u64::MAX)).unwrap();
    let mut found = Vec::new();
    while let Some(records) = log.next_records(true).unwrap() {
        for record in records {
            assert_eq!(record.problem, None);
            let text = String::from_utf8(record.text().unwrap()).unwrap();
            found.push((text, record.client_address()));
        }
    }
    found
}

#[test]
fn a_project_decides_and_else_the_server() {
    for (server_discards, expected) in [(false, [true, true, false]), (true, [false, true, false])]
    {
        let folder = tempfile::tempdir().unwrap();
        let options = EngineOptions {
            discard_client_ip: server_discards,
            ..projects(folder.path())
        };
        let opened = Opened::open(options).started();
        for token in ["phc_test", "phc_keeps", "phc_discards"] {
            stored(&opened, from_client(token));
        }
        let records = records(folder.path());
        let kept = records.iter().map(|(text, client)| {
            let named = text.contains("203.0.113.9");
            assert_eq!(client.is_some(), named);
            assert!(text.contains("\"a\":1"), "{text}");
            named
        });
        assert_eq!(kept.collect::<Vec<_>>(), expected);
        let cut = opened.cut();
        assert_eq!(rows(&cut, TableKind::Events), 3);
        assert_eq!(rows(&cut, TableKind::Rejected), 3);
    }
}

#[test]
fn every_way_in_is_without_addresses_and_answered_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions {
        discard_client_ip: true,
        ..options(folder.path())
    };
    let opened = Opened::open(options).started();
    let event = format!(
        r#"{{"event":"e","distinct_id":"d","uuid":"{}","timestamp":"2026-01-01T00:00:00Z","properties":{{"$ip":"203.0.113.9"}}}}"#,
        uuid(1)
    );
    let envelope = format!(r#"{{"created_at":"2026-01-01T00:00:00Z","batch":[{event}]}}"#);
    assert_eq!(
        opened.v1_results(&envelope),
        format!(r#"{{"results":{{"{}":{{"result":"ok"}}}}}}"#, uuid(1))
    );
    // Also when it is sent again.
    stored(&opened, v1(&envelope));
    stored(&opened, append_message("phc_test", &envelope));
    stored(
        &opened,
        upload(
            r#"[{"distinct_id":"d","properties":{"token":"phc_test","$session_id":"s","$ip":"203.0.113.9","$snapshot_data":[]}}]"#,
        ),
    );
    let form = "--x\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n\
        {\"event\":\"$ai_x\",\"distinct_id\":\"d\",\"properties\":{\"$ai_model\":\"m\",\"$ip\":\"203.0.113.9\"}}\r\n--x--\r\n";
    let ai = Submission::Ai {
        body: Payload::new(form.as_bytes().to_vec()),
        endpoint: Endpoint::Ai,
        coding: Coding::Unspecified,
        content_type: "multipart/form-data; boundary=x".to_owned(),
        token: Some("phc_test".to_owned()),
        sent_at_us: None,
        client_address: Some(ADDRESS.into()),
    };
    opened.engine.submit(1, ai).unwrap();
    let (_, Completion::Stored(summary)) = opened.wait_one() else {
        panic!("it is stored")
    };
    // What only the form as it came tells.
    let answer = String::from_utf8(summary.answer.unwrap()).unwrap();
    assert!(answer.contains("accepted_parts"), "{answer}");
    let records = records(folder.path());
    assert_eq!(records.len(), 5);
    for (text, client) in records {
        assert!(!text.contains("203.0.113.9") && client.is_none(), "{text}");
    }
}
