//! From a record of the log back to the batch that was decided when it was taken.

use std::panic::AssertUnwindSafe;

use penstock_decode::{Workspace, decode_request};
use penstock_model::{Batch, Code, Outcome, Payload};

use crate::record::{self, ContextError, StoredContext};

/// A record does not give the batch that was acknowledged. It goes to quarantine, not to a guess.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error("record is refused on replay: {0}")]
    Refused(&'static str),
    #[error("record gives {found} events on replay, {expected} when it was taken")]
    EventCount { expected: u32, found: usize },
    #[error("event {index} of the record was accepted when it was taken, and is refused on replay")]
    Outcome { index: usize },
    #[error("record names outcomes of events that it does not have")]
    Exceptions,
    #[error("record makes the decoder panic")]
    Panicked,
    #[error("not enough memory to decode the record")]
    NoMemory,
}

impl ReplayError {
    /// Whether the record is as it was written, so that it must not be set aside: another release
    /// can read it, or this one once there is memory.
    pub(crate) fn leaves_record_whole(&self) -> bool {
        match self {
            Self::NoMemory => true,
            Self::Context(error) => error.is_other_release(),
            _ => false,
        }
    }
}

/// Decodes a record as it was decoded first: with its own context, no settings and no clock.
pub(crate) fn replay(
    context: &[u8],
    payload: &Payload,
    workspace: &mut Workspace,
) -> Result<(StoredContext, Batch), ReplayError> {
    let stored = record::decode(context)?;
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(|| {
        decode_request(payload, &stored.request, workspace)
    }));
    let Ok(decoded) = decoded else {
        *workspace = Workspace::default();
        return Err(ReplayError::Panicked);
    };
    let mut batch = decoded.map_err(|refusal| match refusal.code {
        Code::Overloaded => ReplayError::NoMemory,
        code => ReplayError::Refused(code.as_str()),
    })?;
    if batch.events.len() != stored.event_count as usize {
        return Err(ReplayError::EventCount {
            expected: stored.event_count,
            found: batch.events.len(),
        });
    }
    let mut exceptions = stored.exceptions.iter().peekable();
    for (index, event) in batch.events.iter_mut().enumerate() {
        // What was decided then holds, also where today's rules would decide otherwise; but a row
        // can't be made of an event that these rules could not read.
        event.outcome = match exceptions.next_if(|(other, _)| *other as usize == index) {
            Some((_, outcome)) => *outcome,
            None if matches!(event.outcome, Outcome::Rejected(_)) => {
                return Err(ReplayError::Outcome { index });
            }
            None => Outcome::Accepted,
        };
    }
    if exceptions.peek().is_some() {
        return Err(ReplayError::Exceptions);
    }
    Ok((stored, batch))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use penstock_decode::DECODER_VERSION;
    use penstock_model::{BodyForm, Coding, DecodeLimits, Endpoint, RequestContext};

    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NOW_US: i64 = 1_767_225_600_000_000;

    fn request(endpoint: Endpoint) -> RequestContext {
        RequestContext {
            decoder_version: DECODER_VERSION,
            limits: DecodeLimits::DEFAULT,
            endpoint,
            coding: Coding::Unspecified,
            form: BodyForm::Events,
            received_at_us: NOW_US,
            client_address: Some("203.0.113.9".parse().unwrap()),
            sent_at_us: None,
            token: None,
            sdk_info: None,
            cookieless: false,
            uuid_seed: [7; 16],
        }
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Every field of an event that a replay could get wrong: made ids, clock corrections, offsets,
    /// rewritten properties, repairs.
    const BATCH: &str = r#"{"api_key":"phc_a","sent_at":"2026-01-01T00:05:00Z","batch":[
        {"event":"a","distinct_id":"d","timestamp":"2025-12-31T23:59:00.5+02:00",
         "uuid":"01890a5d-ac96-774b-bcce-000000000001","properties":{"$session_id":"s","$ip":"1.2.3.4"}},
        {"event":"no id","distinct_id":7,"offset":1500,"properties":{"$process_person_profile":false}},
        {"event":"merged","distinct_id":"d","$set":{"a":1},"properties":{"$set":{"b":"\ud800"},"x":1e400}},
        {"event":"","distinct_id":"d"}, 17,
        {"event":"a","distinct_id":"d","uuid":"01890a5d-ac96-774b-bcce-000000000001"}]}"#;

    fn check(request: &RequestContext, payload: &Payload, duplicates: &[usize]) {
        let mut workspace = Workspace::default();
        let mut first = decode_request(payload, request, &mut workspace).unwrap();
        for index in duplicates {
            first.events[*index].outcome = Outcome::Duplicate;
        }
        let mut context = Vec::new();
        record::encode(request, "shop", &first, &mut context);
        // Another thread, at another time, that has decoded other things before.
        let mut workspace = Workspace::default();
        let other = Payload::new(gzip(r#"{"api_key":"b","event":"e","distinct_id":"d"}"#));
        decode_request(&other, &self::request(Endpoint::E), &mut workspace).unwrap();
        let (stored, replayed) = replay(&context, payload, &mut workspace).unwrap();
        assert_eq!(&stored.request, request);
        assert_eq!(format!("{replayed:?}"), format!("{first:?}"));
    }

    #[test]
    fn a_replay_gives_every_field_as_it_was_first_decided() {
        let plain = Payload::new(BATCH.as_bytes().to_vec());
        check(&request(Endpoint::Batch), &plain, &[5]);
        check(&request(Endpoint::E), &Payload::new(gzip(BATCH)), &[]);
        let engage = r#"{"$token":"phc_a","token":"phc_a","$distinct_id":"d","$set":{"a":1}}"#;
        let engage = Payload::new(engage.as_bytes().to_vec());
        check(&request(Endpoint::Engage), &engage, &[]);
        let append = RequestContext {
            token: Some("phc_a".to_owned()),
            sent_at_us: Some(NOW_US - 60_000_000),
            ..request(Endpoint::GrpcAppend)
        };
        check(&append, &plain, &[0, 1]);
    }

    /// What only a header said of the body is in the record.
    #[test]
    fn a_replay_of_forms_and_spans_gives_the_same_events() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\n\
            {\"event\":\"$ai_x\",\"distinct_id\":\"d\",\"sent_at\":\"2026-01-01\",\"properties\":{\"$ai_model\":\"m\"}}\r\n\
            --x\r\nContent-Disposition: form-data; name=\"event.properties.b\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n\0\r\n--x--\r\n";
        let boundary = "x".to_owned();
        let of = |endpoint, form| RequestContext {
            form,
            token: Some("phc_a".to_owned()),
            ..request(endpoint)
        };
        let parts = of(Endpoint::Ai, BodyForm::AiParts { boundary });
        check(&parts, &Payload::new(form.as_bytes().to_vec()), &[]);
        check(&parts, &Payload::new(gzip(form)), &[0]);
        let span = r#"{"attributes":[{"key":"gen_ai.x","value":{"intValue":"1"}}]}"#;
        let whole = format!(
            r#"{{"spanId":"0000000000000001","traceId":"00000000000000000000000000000001",{}"#,
            span.trim_start_matches('{')
        );
        let export = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span},{whole},{whole}]}}]}}]}}"#
        );
        check(
            &of(Endpoint::AiOtel, BodyForm::OtlpJson),
            &Payload::new(gzip(&export)),
            &[2],
        );
        // A span with the attribute `ai.x`: true, and no ids.
        let protobuf = b"\x0a\x10\x12\x0e\x12\x0c\x4a\x0a\x0a\x04ai.x\x12\x02\x10\x01".to_vec();
        let context = of(Endpoint::AiOtel, BodyForm::OtlpProtobuf);
        let payload = Payload::new(protobuf);
        let batch = decode_request(&payload, &context, &mut Workspace::default()).unwrap();
        assert_eq!(batch.events.len(), 1);
        check(&context, &payload, &[]);
    }

    #[test]
    fn a_replay_of_capture_v1_gives_what_was_injected_from_headers_and_body() {
        let body = r#"{"created_at":"2026-01-01T00:00:00Z","capture_internal":true,"batch":[
            {"event":"a","distinct_id":" d ","uuid":"01890a5d-ac96-774b-bcce-000000000001",
             "timestamp":"2025-12-31T23:59:00Z","session_id":"s","window_id":"w\ud800",
             "options":{"process_person_profile":false,"product_tour_id":7},
             "properties":{"$lib":"own","$session_id":"own","x":1e400}},
            {"event":"b","distinct_id":"null","uuid":"01890a5d-ac96-774b-bcce-000000000002",
             "timestamp":"2025-12-31T23:59:00Z","options":{"disable_skew_correction":1}},
            {"event":"","distinct_id":"d","uuid":"01890a5d-ac96-774b-bcce-000000000003"}]}"#;
        let v1 = RequestContext {
            token: Some("phc_a".to_owned()),
            sent_at_us: Some(NOW_US - 60_000_000),
            sdk_info: Some("posthog-go/1.23.1".to_owned()),
            ..request(Endpoint::V1Analytics)
        };
        let plain = Payload::new(body.as_bytes().to_vec());
        check(&v1, &plain, &[1]);
        let ai = RequestContext {
            coding: Coding::Gzip,
            ..v1
        };
        check(&ai, &Payload::new(gzip(body)), &[]);

        let mut context = Vec::new();
        let first = decode_request(&plain, &ai, &mut Workspace::default()).unwrap();
        record::encode(&ai, "shop", &first, &mut context);
        let (_, replayed) = replay(&context, &plain, &mut Workspace::default()).unwrap();
        let view = replayed.view();
        assert_eq!(
            view.get(replayed.events[0].properties),
            r#"{"x":1e400,"$session_id":"s","$window_id":"w\ufffd","$process_person_profile":false,"$product_tour_id":"7","$lib":"posthog-go","$lib_version":"1.23.1"}"#
        );
    }

    #[test]
    fn a_record_whose_outcomes_do_not_fit_its_events_is_not_guessed_at() {
        let payload = Payload::new(BATCH.as_bytes().to_vec());
        let request = request(Endpoint::Batch);
        let mut workspace = Workspace::default();
        let first = decode_request(&payload, &request, &mut workspace).unwrap();
        let replayed = |batch: &Batch| {
            let mut context = Vec::new();
            record::encode(&request, "shop", batch, &mut context);
            replay(&context, &payload, &mut Workspace::default()).map(|_| ())
        };
        replayed(&first).unwrap();

        let mut accepted = first.clone();
        accepted.events[3].outcome = Outcome::Accepted;
        assert!(matches!(
            replayed(&accepted),
            Err(ReplayError::Outcome { index: 3 })
        ));
        let mut more = first.clone();
        more.events.push(more.events[3].clone());
        assert!(matches!(
            replayed(&more),
            Err(ReplayError::EventCount { .. })
        ));
    }
}
