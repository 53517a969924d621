//! Who is the same visitor, and who is not.

use penstock_model::Visit;

use super::{HOUR, NOON, directory, disk, distinct_id, ids, open, visit};

#[test]
fn a_visitor_is_the_same_all_day_and_another_the_next() {
    let (salts, _) = open(&disk(), NOON);
    let first = distinct_id(&salts, &visit(NOON));
    assert_eq!(distinct_id(&salts, &visit(NOON - 12 * HOUR)), first);
    assert_eq!(distinct_id(&salts, &visit(NOON + 12 * HOUR - 1)), first);
    assert_ne!(distinct_id(&salts, &visit(NOON + 12 * HOUR)), first);
    assert_ne!(distinct_id(&salts, &visit(NOON - 12 * HOUR - 1)), first);
}

#[test]
fn whatever_tells_visitors_apart_makes_another_id() {
    let (salts, _) = open(&disk(), NOON);
    let first = distinct_id(&salts, &visit(NOON));
    let others = [
        Visit {
            address: "203.0.113.10",
            ..visit(NOON)
        },
        Visit {
            host: "www.example.org",
            ..visit(NOON)
        },
        Visit {
            host: "www.example.com:8443",
            ..visit(NOON)
        },
        Visit {
            user_agent: "Mozilla/5.1",
            ..visit(NOON)
        },
        Visit {
            extra: "1",
            ..visit(NOON)
        },
        // Nothing runs over from one text into the next.
        Visit {
            user_agent: "Mozilla/5",
            extra: ".0",
            ..visit(NOON)
        },
    ];
    let mut seen = vec![first.clone()];
    for other in others {
        let id = distinct_id(&salts, &other);
        assert!(!seen.contains(&id), "{id}");
        seen.push(id);
    }
    let elsewhere = salts.ids_of("blog", &visit(NOON), NOON).unwrap().unwrap();
    assert_ne!(elsewhere.distinct_id, first);
}

#[test]
fn what_only_looks_different_is_the_same_visitor() {
    let (salts, _) = open(&disk(), NOON);
    let first = distinct_id(&salts, &visit(NOON));
    for (address, host) in [
        (" 203.0.113.9 ", "shop.example.com"),
        ("::ffff:203.0.113.9", "https://example.com/cart"),
    ] {
        let other = Visit {
            address,
            host,
            ..visit(NOON)
        };
        assert_eq!(distinct_id(&salts, &other), first);
    }
    let in_v6 = |address| Visit {
        address,
        ..visit(NOON)
    };
    assert_eq!(
        distinct_id(&salts, &in_v6("2001:db8::1")),
        distinct_id(&salts, &in_v6("2001:0DB8:0:0::1"))
    );
}

#[test]
fn a_hundred_characters_of_the_extra_count() {
    let (salts, _) = open(&disk(), NOON);
    let with = |extra: &str| {
        let with = Visit {
            extra,
            ..visit(NOON)
        };
        distinct_id(&salts, &with)
    };
    let hundred = "é".repeat(100);
    assert_eq!(with(&hundred), with(&format!("{hundred}x")));
    assert_ne!(with(&hundred), with(&"é".repeat(99)));
}

#[test]
fn ids_say_what_they_are() {
    let (salts, _) = open(&disk(), NOON);
    let ids = ids(&salts, &visit(NOON), NOON).unwrap();
    let (_, hash) = ids.distinct_id.split_once("cookieless_").unwrap();
    assert_eq!(hash.len(), 32);
    assert_eq!(ids.device_id, format!("cookielessd_{hash}"));
    // The midnight before, in milliseconds; then version and variant.
    let parts: Vec<_> = ids.session_id.split('-').collect();
    let midnight = (NOON - 12 * HOUR) / 1_000;
    assert_eq!(parts[..2].concat(), format!("{midnight:012x}"));
    assert!(parts[2].starts_with('7') && parts[3].starts_with(['8', '9', 'a', 'b']));
    assert_eq!(
        parts.iter().map(|part| part.len()).collect::<Vec<_>>(),
        [8, 4, 4, 4, 12]
    );
}

/// Without the salt, nothing that is written down leads from the visitor to the id.
#[test]
fn another_data_directory_gives_other_ids() {
    let (one, _) = open(&disk(), NOON);
    let (other, _) = open(&disk(), NOON);
    assert_ne!(
        distinct_id(&one, &visit(NOON)),
        distinct_id(&other, &visit(NOON))
    );
}

#[test]
fn nothing_personal_and_no_salt_is_shown() {
    let (salts, _) = open(&disk(), NOON);
    distinct_id(&salts, &visit(NOON));
    let shown = format!("{salts:?}");
    assert!(shown.contains(directory().to_str().unwrap()) && !shown.contains('['));
    assert!(!format!("{:?}", visit(NOON)).contains("203"));
}
