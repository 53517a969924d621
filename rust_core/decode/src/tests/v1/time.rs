//! When an event happened.

use super::*;

const HOUR_US: i64 = 3_600_000_000;

fn time_of(more: &str, sent_at_us: i64) -> (i64, Vec<Warning>) {
    let context = RequestContext {
        sent_at_us: Some(sent_at_us),
        ..v1_context()
    };
    let batch = decode_with(v1_batch(&event_with(more)), &context).unwrap();
    assert_eq!(batch.events[0].outcome, Outcome::Accepted, "{more}");
    (batch.events[0].timestamp_us, warnings(&batch.events[0]))
}

#[test]
fn the_error_of_the_clients_clock_is_taken_out_unless_it_asks_otherwise() {
    let ahead = NOW + HOUR_US;
    assert_eq!(time_of("", ahead).0, NOW - HOUR_US);
    for keep in [
        r#""options":{"disable_skew_correction":true}"#,
        r#""properties":{"$ignore_sent_at":true}"#,
    ] {
        assert_eq!(time_of(keep, ahead).0, NOW, "{keep}");
    }
    // The option decides where both are there.
    let both = r#""options":{"disable_skew_correction":0},"properties":{"$ignore_sent_at":true}"#;
    assert_eq!(time_of(both, ahead).0, NOW - HOUR_US);
}

#[test]
fn a_time_far_ahead_is_that_of_receipt() {
    let limit = r#""timestamp":"2026-01-01T23:00:00Z""#;
    assert_eq!(time_of(limit, NOW), (NOW + 23 * HOUR_US, vec![]));
    let over = r#""timestamp":"2026-01-01T23:00:00.000001Z""#;
    assert_eq!(time_of(over, NOW), (NOW, vec![Warning::TimestampInFuture]));
}

#[test]
fn times_are_read_in_every_form_that_the_older_protocol_takes() {
    for timestamp in [
        r#""2026-01-01T02:00:00+02:00""#,
        r#""2026-01-01 00:00:00""#,
        r#""2026-01-01""#,
        r#""\u0032026-01-01T00:00:00Z""#,
        "1767225600",
        "1767225600000",
    ] {
        assert_eq!(
            time_of(&format!(r#""timestamp":{timestamp}"#), NOW).0,
            NOW,
            "{timestamp}"
        );
    }
}

#[test]
fn the_time_is_kept_as_it_was_sent() {
    let (batch, event) = one_with(r#""timestamp":"2026-01-01T02:00:00+02:00""#);
    let sent = event.client_timestamp.unwrap();
    assert_eq!(batch.view().get(sent), "2026-01-01T02:00:00+02:00");
}
