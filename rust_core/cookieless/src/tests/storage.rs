//! What stays of salts, and what must not.

use penstock_disk::{Crash, Fault, FaultyFilesystem, Filesystem, Operation};

use super::{HOUR, NOON, directory, disk, distinct_id, ids, names, open, visit};

/// A visitor's id of which an event was acknowledged is the same for the rest of the day, wherever
/// the process was killed or the power cut, and however often.
#[test]
fn ids_that_were_given_stay_wherever_it_crashes() {
    for crash in [
        Crash::LoseUnsynced,
        Crash::KeepUnsynced,
        Crash::KeepSome { seed: 1 },
    ] {
        let mut steps = 0;
        for step in 1.. {
            let filesystem = disk();
            let (salts, _) = open(&filesystem, NOON);
            filesystem.crash_before(step, crash);
            let given = salts.ids_of("shop", &visit(NOON), NOON);
            filesystem.crash(crash);
            filesystem.heal();
            // The next process finds it, gives ids, and then the power goes.
            let (salts, report) = open(&filesystem, NOON + HOUR);
            assert_eq!(report.damaged, Vec::<String>::new());
            let second = distinct_id(&salts, &visit(NOON + HOUR));
            filesystem.crash(Crash::LoseUnsynced);
            let (salts, _) = open(&filesystem, NOON + 2 * HOUR);
            assert_eq!(distinct_id(&salts, &visit(NOON)), second, "step {step}");
            steps = steps.max(step);
            if let Ok(given) = given {
                assert_eq!(given.unwrap().distinct_id, second, "step {step}");
                break;
            }
        }
        assert!(steps > 5, "{steps} steps");
    }
}

#[test]
fn a_salt_that_can_t_be_stored_gives_no_ids() {
    for operation in [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
    ] {
        let filesystem = disk();
        let (salts, _) = open(&filesystem, NOON);
        filesystem.fail_nth(operation, 0, Fault::DiskFull);
        let error = salts.ids_of("shop", &visit(NOON), NOON).unwrap_err();
        assert!(penstock_disk::is_disk_full(&error.source), "{operation:?}");
        assert_eq!(salts.count(), 0);
        // Once there is room, it goes on.
        let id = distinct_id(&salts, &visit(NOON));
        drop(salts);
        let (salts, _) = open(&filesystem, NOON);
        assert_eq!(distinct_id(&salts, &visit(NOON)), id);
    }
}

fn is_wiped(filesystem: &FaultyFilesystem, name: &str) -> bool {
    !filesystem.exists(&directory().join(name)).unwrap()
}

#[test]
fn salts_go_once_their_day_is_over_and_not_before() {
    let filesystem = disk();
    let (salts, _) = open(&filesystem, NOON);
    distinct_id(&salts, &visit(NOON));
    distinct_id(&salts, &visit(NOON + 24 * HOUR));
    assert_eq!(salts.expire(NOON + 74 * HOUR - 1).unwrap(), 0);
    assert_eq!(salts.count(), 2);
    assert_eq!(salts.expire(NOON + 74 * HOUR).unwrap(), 1);
    assert_eq!(names(&filesystem), ["2026-01-06.salt"]);
    // For good, also where the power goes right then.
    filesystem.crash(Crash::LoseUnsynced);
    assert!(is_wiped(&filesystem, "2026-01-05.salt"));
    assert_eq!(salts.expire(NOON + 74 * HOUR).unwrap(), 0);
}

#[test]
fn salts_that_ended_while_nothing_ran_go_at_the_next_opening() {
    let filesystem = disk();
    let (salts, _) = open(&filesystem, NOON);
    distinct_id(&salts, &visit(NOON));
    distinct_id(&salts, &visit(NOON + 24 * HOUR));
    drop(salts);
    let (salts, report) = open(&filesystem, NOON + 90 * HOUR);
    assert_eq!((report.expired, salts.count()), (1, 1));
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(names(&filesystem), ["2026-01-06.salt"]);
}

/// What a block held is not to be found in it once it is free.
#[test]
fn a_salt_is_overwritten_before_its_name_goes() {
    let filesystem = disk();
    let (salts, _) = open(&filesystem, NOON);
    distinct_id(&salts, &visit(NOON));
    filesystem.fail_nth(Operation::Remove, 0, Fault::Io);
    salts.expire(NOON + 90 * HOUR).unwrap_err();
    let path = directory().join("2026-01-05.salt");
    filesystem.crash(Crash::LoseUnsynced);
    assert_eq!(&*filesystem.contents(&path).unwrap(), &[0; 28][..]);
    // It is tried again, and until then nothing is made of what is left.
    assert!(ids(&salts, &visit(NOON), NOON + 90 * HOUR).is_err());
    assert_eq!(salts.expire(NOON + 90 * HOUR).unwrap(), 1);
    assert_eq!(names(&filesystem), Vec::<String>::new());
}

#[test]
fn a_salt_that_rotted_is_told_and_made_anew() {
    let filesystem = disk();
    let (salts, _) = open(&filesystem, NOON);
    let id = distinct_id(&salts, &visit(NOON));
    drop(salts);
    let file = filesystem
        .open_read_write(&directory().join("2026-01-05.salt"))
        .unwrap();
    file.write_all_at(&[0xff, 0xff], 12).unwrap();
    let (salts, report) = open(&filesystem, NOON);
    assert_eq!(report.damaged, ["2026-01-05.salt"]);
    assert_ne!(distinct_id(&salts, &visit(NOON)), id);
}

#[test]
fn files_of_others_are_let_be() {
    let filesystem = disk();
    filesystem.create_dir_synced(directory()).unwrap();
    for name in ["README", "2026-13-01.salt", "2026-01-05.salt.tmp"] {
        filesystem.create_new(&directory().join(name)).unwrap();
    }
    let (salts, report) = open(&filesystem, NOON);
    assert_eq!((report.expired, salts.count()), (0, 0));
    assert_eq!(names(&filesystem), ["2026-13-01.salt", "README"]);
}
