//! Forms that no client means to send.

use super::parts::{
    BOUNDARY, BYTES, EVENT, JSON, Part, TEXT, form, parts_context, read, refusal_of,
};
use super::*;

const EVENT_PART: Part<'static> = ("event", JSON, EVENT.as_bytes());

/// A form that is cut at any place is refused, never taken for a shorter one.
#[test]
fn a_form_cut_anywhere_is_refused() {
    let body = form(&[
        EVENT_PART,
        ("event.properties.a", TEXT, b"one"),
        ("event.properties.b", BYTES, b"\r\n--"),
    ]);
    let whole = body.len() - "--\r\n".len();
    for len in 1..whole + 2 {
        let refusal = read(body[..len].to_vec()).unwrap_err();
        assert_eq!(refusal.code, Code::InvalidMultipart, "cut at {len}");
    }
    for len in whole + 2..=body.len() {
        read(body[..len].to_vec()).unwrap();
    }
}

#[test]
fn a_boundary_inside_of_data_parts_it_only_at_the_start_of_a_line() {
    let near = format!(
        "x--{BOUNDARY}\r\n--{BOUNDARY}x\r\n--{BOUNDARY}-\n\r\n--{}",
        &BOUNDARY.split_at(1).1
    );
    let body = form(&[EVENT_PART, ("event.properties.a", TEXT, near.as_bytes())]);
    let (batch, _) = read(body).unwrap();
    assert_eq!(properties(&batch, 0)["a"], near.as_str());
}

#[test]
fn huge_counts_of_parts_and_heads_are_refused_cheaply() {
    let line = format!("\r\n--{BOUNDARY}\r\n\r\n");
    let many = line.repeat((4 << 20) / line.len());
    assert_eq!(
        read(many.into_bytes()).unwrap_err().code,
        Code::InvalidMultipart
    );
    let heads = format!("--{BOUNDARY}\r\n{}", "a: b\r\n".repeat(700_000));
    assert_eq!(
        read(heads.into_bytes()).unwrap_err().code,
        Code::InvalidMultipart
    );
    // Padding that never ends its line.
    let padded = format!("\r\n--{BOUNDARY} ").repeat(100_000) + &" ".repeat(1 << 20);
    assert_eq!(
        read(padded.into_bytes()).unwrap_err().code,
        Code::InvalidMultipart
    );
}

#[test]
fn parts_can_not_grow_beyond_the_limit_of_all() {
    let zeros = gzip(&vec![0; 20 << 20]);
    let coded = "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n";
    let first: Part<'_> = ("event.properties.a", coded, &zeros);
    // Control characters would take six bytes each as a string.
    let (batch, _) = read(form(&[EVENT_PART, first])).unwrap();
    assert!(batch.events[0].properties.len() < 28 << 20);
    let both = [EVENT_PART, first, ("event.properties.b", coded, &zeros)];
    assert_eq!(refusal_of(&both).code, Code::DecompressedTooLarge);

    let bomb = gzip(&vec![0; 40 << 20]);
    let inside = refusal_of(&[EVENT_PART, ("event.properties.a", coded, &bomb)]);
    assert_eq!(inside.code, Code::DecompressedTooLarge);
    assert_eq!(read(bomb).unwrap_err().code, Code::DecompressedTooLarge);
}

#[test]
fn damaged_and_unknown_codings_of_parts_are_named() {
    let of = |coding: &str, data: &[u8]| {
        let headers = format!("Content-Type: text/plain\r\nContent-Encoding: {coding}\r\n");
        refusal_of(&[EVENT_PART, ("event.properties.a", &headers, data)]).code
    };
    assert_eq!(of("gzip", b"\x1f\x8b\x08rubbish"), Code::InvalidGzip);
    assert_eq!(of("br", b"rubbish"), Code::InvalidBrotli);
    assert_eq!(of("zip", b"rubbish"), Code::UnsupportedCoding);
}

#[test]
fn text_that_is_none_is_mended_and_said_so() {
    let event = EVENT.replacen("\"ada\"", "\"a\u{fffd}\"", 1);
    let raw = event.replace('\u{fffd}', "\u{0}").into_bytes();
    let raw: Vec<u8> = raw
        .iter()
        .map(|byte| if *byte == 0 { 0xff } else { *byte })
        .collect();
    let (batch, _) = read(form(&[("event", JSON, &raw)])).unwrap();
    assert_eq!(batch.view().get(batch.events[0].distinct_id), "a\u{fffd}");
    assert_eq!(warnings(&batch.events[0]), [Warning::InvalidUtf8]);
}

#[test]
fn lone_surrogates_of_a_blob_are_replaced() {
    let blob: Part<'_> = ("event.properties.a", JSON, br#"["\ud83e"]"#);
    let (batch, _) = read(form(&[EVENT_PART, blob])).unwrap();
    assert_eq!(properties(&batch, 0)["a"][0], "\u{fffd}");
    assert_eq!(warnings(&batch.events[0]), [Warning::LoneSurrogate]);
}

/// Whatever a form is made of, decoding it ends, and the same way each time.
#[test]
fn random_forms_end_the_same_way_each_time() {
    let pieces: [&[u8]; 12] = [
        b"\r\n",
        b"--",
        BOUNDARY.as_bytes(),
        b"Content-Disposition: form-data; name=\"event\"\r\n\r\n",
        b"Content-Disposition: form-data; name=\"event.properties.x\"\r\n",
        JSON.as_bytes(),
        EVENT.as_bytes(),
        b"\xff\x00",
        b"{\"a\":",
        b"}",
        b"\"",
        b" ",
    ];
    let mut random = super::super::random::Random::new(7);
    for _ in 0..500 {
        let mut body = form(&[EVENT_PART]);
        for _ in 0..random.below(12) {
            let piece = pieces[random.below(pieces.len())];
            let at = random.below(body.len());
            body.splice(at..at, piece.iter().copied());
        }
        let payload = Payload::new(body);
        let once = decode_request(&payload, &parts_context(), &mut Workspace::default());
        let again = decode_request(&payload, &parts_context(), &mut Workspace::default());
        assert_eq!(format!("{once:?}"), format!("{again:?}"));
        if let Ok(batch) = once {
            for event in &batch.events {
                let view = batch.view();
                if event.outcome == Outcome::Accepted {
                    serde_json::from_str::<serde_json::Value>(view.get(event.properties)).unwrap();
                }
            }
        }
    }
}
