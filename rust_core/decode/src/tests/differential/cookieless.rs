//! Events of cookieless mode against the oracle: whose ids are asked for, and what is written anew.

mod oracle;

use penstock_model::{Visit, VisitorIds};

use super::*;
use crate::{decode_cookieless, decode_with_answer, has_cookieless};

/// The ids of the visit of an index; some have none.
fn ids_of(index: usize) -> Result<VisitorIds, Code> {
    if index == 1 {
        return Err(Code::CookielessTimestampOutOfRange);
    }
    Ok(VisitorIds {
        distinct_id: format!("cookieless_{index}"),
        device_id: format!("cookielessd_{index}"),
        session_id: format!("01890a5d-ac96-774b-bcce-{index:012x}"),
    })
}

/// The events of a body by the oracle; `None` if it is refused, or says more of times than it knows.
fn events_of(body: &[u8], context: &RequestContext) -> Option<Vec<Fields>> {
    if context.endpoint.is_v1() {
        let expected = v1::oracle::read(body, context).ok()?;
        return Some(expected.request.events);
    }
    Some(super::oracle::read(body, context).ok()?.events)
}

fn context_of(random: &mut Random, is_v1: bool) -> RequestContext {
    RequestContext {
        limits: LIMITS,
        endpoint: if is_v1 {
            Endpoint::V1Analytics
        } else {
            Endpoint::Batch
        },
        token: is_v1.then(|| "phc_a".to_owned()),
        sent_at_us: is_v1.then_some(NOW),
        client_address: (!random.one_in(3)).then(|| "9.9.9.9".parse().unwrap()),
        ..context()
    }
}

/// Rewrites a body both ways and compares.
fn check(body: &[u8], context: &RequestContext, is_damaged: bool, seed: u64, seen: &mut Seen) {
    let mut count = |what| *seen.entry(what).or_default() += 1;
    let shown = || format!("seed {seed:#x}, body b\"{}\"", body.escape_ascii());
    let Some(events) = events_of(body, context) else {
        return count("refused");
    };
    let mut workspace = Workspace::default();
    let payload = Payload::new(body.to_vec());
    let (batch, answer) = decode_with_answer(&payload, context, &mut workspace).unwrap();
    let is_visitors = events.iter().any(|event| event.cookieless);
    assert_eq!(has_cookieless(&batch), is_visitors, "{}", shown());
    if !is_visitors {
        return count("no visitor");
    }
    let expected = oracle::rewrite(body, context, &events, ids_of);

    let mut visits = Vec::new();
    let mut identify = |visit: &Visit<'_>| {
        visits.push(oracle::Visit {
            time_zone: visit.time_zone.map(str::to_owned),
            address: visit.address.to_owned(),
            host: visit.host.to_owned(),
            user_agent: visit.user_agent.to_owned(),
            extra: visit.extra.to_owned(),
        });
        Ok(ids_of(visits.len() - 1))
    };
    let mut after = context.clone();
    let (payload, batch, _) = decode_cookieless(
        &payload,
        &mut after,
        batch,
        answer,
        &mut workspace,
        &mut identify,
    )
    .unwrap_or_else(|refusal| panic!("{refusal:?}, {}", shown()));
    assert_eq!(visits, expected.visits, "{}", shown());
    let text = String::from_utf8_lossy(payload.as_slice());
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    assert_eq!(
        raw::compact(text),
        raw::compact(&expected.text),
        "{}",
        shown()
    );
    let outcomes: Vec<_> = batch.events.iter().map(|event| event.outcome).collect();
    assert_eq!(outcomes, expected.outcomes, "{}", shown());
    let address = context.client_address.filter(|_| expected.needs_address);
    assert_eq!(after.client_address, address, "{}", shown());
    assert_eq!(after.coding, Coding::Identity);
    check_events(&payload, &batch, &events, &after, &shown());
    if !is_damaged && events.iter().all(|event| event.cookieless) {
        assert!(!text.contains(generator::cookieless::SECRET), "{}", shown());
        count("visitors only");
    }
    for (event, before) in batch.events.iter().zip(&events) {
        let raw = batch.view().get(event.raw);
        if !before.cookieless {
            count("other event");
            assert_eq!(raw, before.raw, "{}", shown());
            continue;
        }
        let keeps = raw.contains(generator::cookieless::SECRET);
        assert!(is_damaged || !keeps, "{raw}, {}", shown());
        if before.raw.contains(generator::cookieless::SECRET) {
            count("secret");
        }
        match event.outcome {
            Outcome::Rejected(code) => count(code.as_str()),
            _ if raw.contains("\"cookieless_") => count("identified"),
            _ if raw.contains("\"cookielessd_x\"") => count("identified before"),
            _ => count("named"),
        }
    }
    let is_repaired = std::str::from_utf8(body).is_err();
    is_repaired.then(|| count("repaired"));
}

/// What is kept reads as any body does, but that visitors have no address.
fn check_events(
    payload: &Payload,
    batch: &Batch,
    before: &[Fields],
    context: &RequestContext,
    shown: &str,
) {
    let mut expected = events_of(payload.as_slice(), context).expect("it was read before");
    assert_eq!(batch.events.len(), expected.len(), "{shown}");
    for ((event, expected), before) in batch.events.iter().zip(&mut expected).zip(before) {
        assert_eq!(expected.cookieless, before.cookieless, "{shown}");
        expected.outcome = event.outcome;
        if expected.cookieless {
            assert_eq!(event.ip, ClientIp::Withheld, "{shown}");
            expected.texts[5] = None;
        }
        let found = fields(event, batch.view(), expected);
        assert_eq!(found, *expected, "{shown}");
    }
}

fn check_many(count: u64, salt: u64, is_damaged: bool) -> Seen {
    let mut seen = Seen::new();
    for index in 0..count {
        let seed = SEED ^ salt << 48 ^ index;
        let mut random = Random::new(seed);
        let is_v1 = random.one_in(2);
        let context = context_of(&mut random, is_v1);
        let mut body = generator::cookieless::request(&mut random, is_v1);
        if is_damaged {
            generator::mutate(&mut random, &mut body);
        }
        check(&body, &context, is_damaged, seed, &mut seen);
    }
    seen
}

const OF_VISITORS: [Code; 9] = [
    Code::InvalidCookielessMode,
    Code::CookielessUnsupportedEvent,
    Code::CookielessMissingUserAgent,
    Code::CookielessMissingIp,
    Code::CookielessMissingHost,
    Code::CookielessTimestampOutOfRange,
    Code::InvalidOptions,
    Code::EventTooDeep,
    Code::EventTooLarge,
];

#[test]
fn visitors_get_ids_and_keep_no_secret_as_serde_json_reads_them() {
    let seen = check_many(10_000, 6, false);
    assert_seen(&seen, 1_000, &[], &["identified", "other event", "secret"]);
    assert_seen(&seen, 50, &OF_VISITORS, &["identified before", "named"]);
    assert_seen(&seen, 50, &[], &["refused", "no visitor", "visitors only"]);
}

#[test]
fn damaged_bodies_of_visitors_are_written_anew_as_serde_json_reads_them() {
    let seen = check_many(12_000, 7, true);
    assert_seen(&seen, 500, &[], &["identified", "other event"]);
    assert_seen(&seen, 15, &OF_VISITORS, &["identified before", "named"]);
    assert_seen(&seen, 50, &[], &["repaired"]);
}
