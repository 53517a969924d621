//! Content codings, right and wrong.

use penstock_model::BatchText;

use super::*;
use crate::expected_decoded_bytes;

fn body() -> String {
    batch_of(r#"{"event":"e","distinct_id":"d","properties":{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}"#)
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).unwrap()
}

fn with_hint(coding: Coding) -> RequestContext {
    RequestContext {
        coding,
        ..context()
    }
}

#[test]
fn what_the_bytes_are_wins_over_what_is_said_of_them() {
    for hint in Coding::ALL {
        for bytes in [
            gzip(body().as_bytes()),
            zstd(body().as_bytes()),
            body().into_bytes(),
        ] {
            let batch = decode_with(bytes, &with_hint(hint)).unwrap();
            assert_eq!(batch.view().get(batch.events[0].event), "e");
        }
    }
}

#[test]
fn a_gzip_hint_over_plain_json_is_forgiven() {
    let body = format!("\u{feff}\n {}", body());
    assert_eq!(
        decode_with(body, &with_hint(Coding::Gzip))
            .unwrap()
            .events
            .len(),
        1
    );
}

#[test]
fn all_members_and_frames_are_read() {
    let body = body();
    for cut in [0, 1, 20, body.len() - 1] {
        let (first, second) = body.as_bytes().split_at(cut);
        for compress in [gzip, zstd] {
            let coded = [compress(first), compress(second)].concat();
            assert_eq!(decode(coded).unwrap().events.len(), 1);
        }
    }
    // Bodies of very many members are read too.
    let many: Vec<u8> = body.as_bytes().chunks(1).flat_map(gzip).collect();
    assert_eq!(decode(many).unwrap().events.len(), 1);
}

#[test]
fn padding_behind_the_last_member_is_ignored() {
    for padding in [&[0; 40][..], b"junk", b"\x1f", b"\x1f\x8b"] {
        let coded = [gzip(body().as_bytes()), padding.to_vec()].concat();
        assert_eq!(decode(coded).unwrap().events.len(), 1);
        let coded = [zstd(body().as_bytes()), padding.to_vec()].concat();
        assert_eq!(decode(coded).unwrap().events.len(), 1);
    }
}

#[test]
fn damaged_and_truncated_bodies_are_refused_whole() {
    let whole = gzip(body().as_bytes());
    for end in 3..whole.len() {
        assert_eq!(refused(&whole[..end]), Code::InvalidGzip, "{end}");
    }
    // A second member that is cut short may have held events.
    let second = [whole.clone(), whole[..whole.len() - 1].to_vec()].concat();
    assert_eq!(refused(second), Code::InvalidGzip);
    let mut wrong_crc = whole.clone();
    let place = whole.len() - 8;
    wrong_crc[place] ^= 1;
    assert_eq!(refused(wrong_crc), Code::InvalidGzip);
    let not_gzip = decode_with("junk", &with_hint(Coding::Gzip)).unwrap_err();
    assert_eq!(not_gzip.code, Code::InvalidGzip);

    let whole = zstd(body().as_bytes());
    for end in 4..whole.len() {
        assert_eq!(refused(&whole[..end]), Code::InvalidZstd, "{end}");
    }
    let not_zstd = decode_with("junk", &with_hint(Coding::Zstd)).unwrap_err();
    assert_eq!(not_zstd.code, Code::InvalidZstd);
}

#[test]
fn a_wrong_claim_of_size_changes_nothing_but_the_guess() {
    let padded = format!("{}{}", body(), " ".repeat(100_000));
    for claim in [0_u32, 1, 5_000, 200_000, u32::MAX] {
        // Padding behind the member is what a reader takes for its size.
        let coded = [gzip(padded.as_bytes()), claim.to_le_bytes().to_vec()].concat();
        let batch = decode(coded).unwrap();
        let BatchText::Decoded(text) = &batch.text else {
            panic!("it was compressed")
        };
        assert_eq!(text.len(), padded.len());
        assert!(text.capacity() <= text.len() + text.len() / 8);
    }
}

#[test]
fn the_limit_of_decompression_is_exact() {
    let body = body();
    for compress in [gzip, zstd] {
        let coded = compress(body.as_bytes());
        let mut context = context();
        context.limits.max_decompressed_bytes = u32::try_from(body.len()).unwrap();
        assert_eq!(
            decode_with(coded.clone(), &context).unwrap().events.len(),
            1
        );
        context.limits.max_decompressed_bytes -= 1;
        let refusal = decode_with(coded, &context).unwrap_err();
        assert_eq!(refusal.code, Code::DecompressedTooLarge);
    }
    let mut context = context();
    context.limits.max_decompressed_bytes = u32::try_from(body.len()).unwrap();
    assert!(decode_with(body.clone(), &context).is_ok());
    context.limits.max_decompressed_bytes -= 1;
    assert_eq!(
        decode_with(body, &context).unwrap_err().code,
        Code::RequestTooLarge
    );
}

#[test]
fn bombs_are_refused() {
    let mut context = context();
    context.limits.max_decompressed_bytes = 1 << 20;
    for compress in [gzip, zstd] {
        let bomb = compress(&vec![0; 32 << 20]);
        let refusal = decode_with(bomb.clone(), &context).unwrap_err();
        assert_eq!(refusal.code, Code::DecompressedTooLarge);
        // A bomb that hides its size behind padding.
        let hidden = [bomb, vec![0; 8]].concat();
        let refusal = decode_with(hidden, &context).unwrap_err();
        assert_eq!(refusal.code, Code::DecompressedTooLarge);
    }
}

#[test]
fn a_workspace_forgets_the_body_before() {
    let mut workspace = Workspace::default();
    let good = [gzip(body().as_bytes()), zstd(body().as_bytes())];
    let bad = [
        good[0][..20].to_vec(),
        good[1][..20].to_vec(),
        b"{\"batch\":[{}".to_vec(),
    ];
    for _ in 0..2 {
        for payload in &bad {
            let payload = Payload::new(payload.clone());
            assert!(decode_request(&payload, &context(), &mut workspace).is_err());
        }
        for payload in &good {
            let payload = Payload::new(payload.clone());
            let batch = decode_request(&payload, &context(), &mut workspace).unwrap();
            assert_eq!(batch.events.len(), 1);
        }
    }
}

#[test]
fn admission_counts_what_a_body_becomes() {
    let limits = DecodeLimits::DEFAULT;
    let text = body().repeat(50);
    let events = &BodyForm::Events;
    let expected = |bytes: &[u8], coding| expected_decoded_bytes(bytes, coding, events, &limits);
    assert_eq!(expected(text.as_bytes(), Coding::Unspecified), text.len());
    assert_eq!(expected(text.as_bytes(), Coding::Gzip), text.len());
    assert_eq!(
        expected(&gzip(text.as_bytes()), Coding::Unspecified),
        text.len()
    );
    assert_eq!(
        expected(&zstd(text.as_bytes()), Coding::Identity),
        text.len()
    );
    // A claim beyond what deflate can do or the limit allows is not believed.
    let guess = |coding| expected(b"\x8b\x02", coding);
    assert_eq!([guess(Coding::Brotli), guess(Coding::Deflate)], [32; 2]);
    assert_eq!(expected(text.as_bytes(), Coding::Brotli), text.len());
    assert_eq!(expected(b"N4IghgDg", Coding::Lz64), 8 * 16);
    // What stands in letters is smaller than they, and held beside them.
    assert_eq!(expected(b"data=e30=", Coding::Unspecified), 4);
    assert_eq!(expected(b"e30=e30=", Coding::Unspecified), 6);
    let lie = [gzip(b"x"), vec![0xff; 4]].concat();
    assert_eq!(expected(&lie, Coding::Gzip), lie.len() * 1_032);
    let tight = DecodeLimits {
        max_decompressed_bytes: 100,
        ..limits
    };
    let bytes = expected_decoded_bytes(&gzip(text.as_bytes()), Coding::Gzip, events, &tight);
    assert_eq!(bytes, 100);
}
