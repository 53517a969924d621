//! Salts and ids together, on a faulty disk and a clock moved by hand.

mod days;
mod ids;
mod storage;

use std::path::Path;
use std::sync::Arc;

use penstock_disk::{FaultyFilesystem, Filesystem};
use penstock_model::{Code, Visit, VisitorIds};

use crate::{OpenReport, Salts};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// 2026-01-05T12:00:00Z.
const NOON: i64 = 1_767_614_400 * SECOND;

fn directory() -> &'static Path {
    Path::new("/data/cookieless")
}

fn disk() -> FaultyFilesystem {
    let filesystem = FaultyFilesystem::new();
    filesystem.create_dir_synced(Path::new("/data")).unwrap();
    filesystem
}

fn open(filesystem: &FaultyFilesystem, now_us: i64) -> (Salts, OpenReport) {
    Salts::open(Arc::new(filesystem.clone()), directory(), now_us).unwrap()
}

fn names(filesystem: &FaultyFilesystem) -> Vec<String> {
    let names = filesystem.read_dir(directory()).unwrap_or_default();
    let texts = names.into_iter().map(|name| name.into_string().unwrap());
    texts.collect()
}

fn visit(timestamp_us: i64) -> Visit<'static> {
    Visit {
        timestamp_us,
        time_zone: None,
        address: "203.0.113.9",
        host: "www.example.com",
        user_agent: "Mozilla/5.0",
        extra: "",
    }
}

fn ids(salts: &Salts, visit: &Visit<'_>, now_us: i64) -> Result<VisitorIds, Code> {
    salts.ids_of("shop", visit, now_us).unwrap()
}

fn distinct_id(salts: &Salts, visit: &Visit<'_>) -> String {
    ids(salts, visit, visit.timestamp_us).unwrap().distinct_id
}
