//! Whose day it is, and how long it is open.

use penstock_model::{Code, Visit};

use super::{HOUR, NOON, SECOND, disk, distinct_id, ids, names, open, visit};
use crate::day::{Day, is_open};

fn in_zone(timestamp_us: i64, zone: &str) -> Option<(String, i64)> {
    let visit = Visit {
        time_zone: Some(zone),
        ..visit(timestamp_us)
    };
    Day::of(&visit).map(|(day, begun_us)| (day.to_string(), begun_us))
}

#[test]
fn the_day_is_that_of_the_visitor() {
    for (zone, day, begun) in [
        ("UTC", "2026-01-05", NOON - 12 * HOUR),
        ("Europe/Berlin", "2026-01-05", NOON - 13 * HOUR),
        ("Pacific/Kiritimati", "2026-01-06", NOON - 2 * HOUR),
        ("Etc/GMT+12", "2026-01-05", NOON - 12 * HOUR + 12 * HOUR),
        ("Pacific/Auckland", "2026-01-06", NOON - HOUR),
        ("America/Los_Angeles", "2026-01-05", NOON - 4 * HOUR),
        (
            "Asia/Kolkata",
            "2026-01-05",
            NOON - 12 * HOUR - 11 * HOUR / 2,
        ),
        // What is none is UTC.
        ("Europe/Atlantis", "2026-01-05", NOON - 12 * HOUR),
        ("", "2026-01-05", NOON - 12 * HOUR),
    ] {
        assert_eq!(in_zone(NOON, zone), Some((day.to_owned(), begun)), "{zone}");
    }
    let long = "a/".repeat(100_000);
    assert_eq!(in_zone(NOON, &long).unwrap().0, "2026-01-05");
}

/// 2026-03-29 has 23 hours in Berlin, and 2026-10-25 has 25.
#[test]
fn days_on_which_the_clocks_change_are_one_day_each() {
    for (begin, hours, day) in [
        (1_774_738_800, 23, "2026-03-29"),
        (1_792_879_200, 25, "2026-10-25"),
    ] {
        let begin = begin * SECOND;
        let end = begin + hours * HOUR;
        for (at, inside) in [
            (begin - 1, false),
            (begin, true),
            (end - 1, true),
            (end, false),
        ] {
            let (found, begun) = in_zone(at, "Europe/Berlin").unwrap();
            assert_eq!(found == day, inside, "{day}: {at}");
            assert_eq!(begun == begin, inside, "{day}: {at}");
        }
    }
}

#[test]
fn a_day_is_open_from_its_first_zone_until_the_lag_is_over() {
    let (day, midnight) = Day::of(&visit(NOON)).unwrap();
    for (now, open) in [
        (midnight - 14 * HOUR - 1, false),
        (midnight - 14 * HOUR, true),
        (midnight + 86 * HOUR - 1, true),
        (midnight + 86 * HOUR, false),
        (i64::MIN, false),
        (i64::MAX, false),
    ] {
        assert_eq!(is_open(day, now), open, "{now}");
    }
}

#[test]
fn an_event_of_no_open_day_is_refused_and_makes_no_salt() {
    let filesystem = disk();
    let (salts, _) = open(&filesystem, NOON);
    let refused = Err(Code::CookielessTimestampOutOfRange);
    for age in [-40 * HOUR, 99 * HOUR, 24 * 365 * HOUR] {
        assert_eq!(ids(&salts, &visit(NOON - age), NOON), refused);
    }
    for timestamp_us in [i64::MIN, i64::MAX, -377_705_116_800 * SECOND] {
        assert_eq!(ids(&salts, &visit(timestamp_us), NOON), refused);
    }
    assert_eq!(names(&filesystem), Vec::<String>::new());
    // Of the day after tomorrow's eve and of three days ago there is one.
    assert!(ids(&salts, &visit(NOON + 22 * HOUR), NOON).is_ok());
    assert!(ids(&salts, &visit(NOON - 72 * HOUR), NOON).is_ok());
    assert_eq!(names(&filesystem), ["2026-01-02.salt", "2026-01-06.salt"]);
}

/// An event that comes late, or again, has the ids of the day on which it happened.
#[test]
fn a_late_event_is_of_the_visitor_that_it_was() {
    let (salts, _) = open(&disk(), NOON);
    let first = distinct_id(&salts, &visit(NOON));
    let late = ids(&salts, &visit(NOON), NOON + 72 * HOUR).unwrap();
    assert_eq!(late.distinct_id, first);
    assert!(ids(&salts, &visit(NOON), NOON + 74 * HOUR).is_err());
}

/// At most five days are open, whenever it is.
#[test]
fn few_days_are_open_at_once() {
    for hour in 0..48 {
        let now = NOON + hour * HOUR;
        let open = (-10..10).filter(|days| {
            let (day, _) = Day::of(&visit(now + days * 24 * HOUR)).unwrap();
            is_open(day, now)
        });
        assert!((4..=5).contains(&open.count()));
    }
}

#[test]
fn names_of_days_read_back_and_nothing_else_does() {
    for text in ["2026-01-05", "1969-12-31", "9999-12-30", "0001-01-01"] {
        assert_eq!(Day::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "",
        "2026-1-5",
        "2026-02-30",
        "20260105",
        "2026-01-05T00:00",
        "x",
    ] {
        assert_eq!(Day::parse(text), None, "{text}");
    }
}
