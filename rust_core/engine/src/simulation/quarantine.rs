//! What lies in quarantine.

use std::path::Path;

use penstock_decode::Workspace;
use penstock_disk::{FaultyFilesystem, Filesystem as _};
use penstock_model::{Outcome, Payload};

use super::machine::DATA_DIRECTORY;
use super::model::Found;
use super::request::{id_of, number_of};
use crate::quarantine::split;
use crate::replay::replay;

/// The events of all records that were set aside. Each record has one file, also if it was set
/// aside twice.
pub(super) fn found(faulty: &FaultyFilesystem) -> Found {
    let directory = Path::new(DATA_DIRECTORY).join("wal/quarantine");
    let mut found = Found::default();
    for name in faulty.read_dir(&directory).unwrap_or_default() {
        let path = directory.join(&name);
        if path
            .extension()
            .is_none_or(|extension| extension != "record")
        {
            continue;
        }
        let bytes = faulty.contents(&path).unwrap();
        let parts = split(&bytes).expect("published whole");
        let payload = bytes[bytes.len() - parts.payload_bytes..].to_vec();
        found.extend(&events_of(parts.context, payload));
    }
    found
}

/// What a record of the log gives to the tables.
pub(super) fn events_of(context: &[u8], payload: Vec<u8>) -> Found {
    // Nothing is compressed here: the events' text is the payload's, with one refused at most.
    let raw = String::from_utf8_lossy(&payload).into_owned();
    let (_, batch) = replay(context, &Payload::new(payload), &mut Workspace::default()).unwrap();
    let mut found = Found::default();
    for event in &batch.events {
        match event.outcome {
            Outcome::Accepted => found.ids.push(id_of(&event.uuid.to_string())),
            Outcome::Rejected(_) => found.rejected.push(number_of(&raw)),
            Outcome::Duplicate => {}
        }
    }
    found
}
