//! Compressed bodies that lie, burst, or are no such thing.

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::*;

const MEBIBYTE: usize = 1 << 20;

fn hinted(coding: Coding) -> RequestContext {
    RequestContext {
        coding,
        ..context()
    }
}

/// One gzip member of `mebibytes` × 2^20 times `filler`, at a thousandth of the size. The middle is
/// one flushed block repeated: it refers to what lies before it, which is always the same.
fn bomb(filler: u8, mebibytes: u32) -> Vec<u8> {
    let block = vec![filler; MEBIBYTE];
    let mut compress = Compress::new(Compression::best(), false);
    let mut flushed = || {
        let mut out = Vec::with_capacity(MEBIBYTE);
        compress
            .compress_vec(&block, &mut out, FlushCompress::Sync)
            .unwrap();
        out
    };
    let (first, next) = (flushed(), flushed());
    let mut crc_of_block = Crc::new();
    crc_of_block.update(&block);
    let mut crc = Crc::new();
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    for index in 0..mebibytes {
        out.extend_from_slice(if index == 0 { &first } else { &next });
        crc.combine(&crc_of_block);
    }
    // An empty last block, then the sums.
    out.extend_from_slice(b"\x03\0");
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(mebibytes << 20).to_le_bytes());
    out
}

/// A gzip member that stores `bytes` as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&u32::from(len).to_le_bytes());
    out
}

#[test]
fn a_gigabyte_of_zeros_in_a_megabyte_is_refused() {
    // The bomb is what it says: a small one is read to its end and found blank.
    assert_eq!(refused(bomb(b' ', 4)), Code::MissingPayload);
    assert_eq!(refused(bomb(0, 4)), Code::InvalidJson);

    let single = bomb(0, 1_024);
    assert!(single.len() < 1_200_000, "{} bytes", single.len());
    assert_eq!(refused(single.clone()), Code::DecompressedTooLarge);
    // Its size may be hidden, or spread over many members.
    assert_eq!(
        refused([single, vec![0; 8]].concat()),
        Code::DecompressedTooLarge
    );
    assert_eq!(
        refused(bomb(0, 1).repeat(1_024)),
        Code::DecompressedTooLarge
    );
    assert_eq!(
        refused([stored(b"{"), bomb(b' ', 1_024)].concat()),
        Code::DecompressedTooLarge
    );
    let frame = zstd::bulk::compress(&vec![0; MEBIBYTE], 3).unwrap();
    assert_eq!(refused(frame.repeat(1_024)), Code::DecompressedTooLarge);
}

#[test]
fn a_workspace_that_met_a_bomb_is_as_good_as_new() {
    let mut workspace = Workspace::default();
    for body in [
        bomb(0, 200),
        batch_of(GOOD).into_bytes(),
        gzip(batch_of(GOOD).as_bytes()),
    ] {
        let is_bomb = body.len() > 1_000;
        let found = decode_request(&Payload::new(body), &context(), &mut workspace);
        assert_eq!(found.is_err(), is_bomb);
    }
}

#[test]
fn what_is_no_gzip_is_refused_as_such() {
    let text = batch_of(GOOD);
    let good = gzip(text.as_bytes());
    let with = |at: usize, bytes: &[u8]| {
        let mut body = good.clone();
        body.splice(at..at + bytes.len(), bytes.iter().copied());
        body
    };
    for body in [
        b"\x1f\x8b\x08".to_vec(),
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec(),
        b"\x1f\x8b\x08 and so on, for more bytes than a head and a tail have".to_vec(),
        // Reserved flags; a name, a comment and an extra field that never end.
        with(3, b"\xe0"),
        [b"\x1f\x8b\x08\x08\0\0\0\0\0\xff", &[b'n'; 100][..]].concat(),
        [b"\x1f\x8b\x08\x10\0\0\0\0\0\xff", &[b'c'; 100][..]].concat(),
        [b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\xff\xff", &[b'x'; 100][..]].concat(),
        // A block of no known type; a stored one whose two lengths differ; a distance before the start.
        with(10, b"\x07"),
        [
            b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\0\0hello",
            &[0; 8][..],
        ]
        .concat(),
        [b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\x02\0", &[0; 8][..]].concat(),
        // The sum or the size is not that of the text.
        with(good.len() - 8, b"\0\0\0\0"),
        with(good.len() - 4, b"\xff\xff\xff\xff"),
    ] {
        for hint in [
            Coding::Unspecified,
            Coding::Identity,
            Coding::Gzip,
            Coding::Zstd,
        ] {
            let refusal = decode_with(body.clone(), &hinted(hint)).unwrap_err();
            assert_eq!(refusal.code, Code::InvalidGzip, "{}", body.escape_ascii());
        }
    }
    // Bytes without the magic are what the request says of them, else a text.
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(text.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(text.as_bytes()).unwrap();
    for body in [
        deflate.finish().unwrap(),
        zlib.finish().unwrap(),
        with(2, b"\x07"),
        b"BZh91AY&SY".to_vec(),
        b"\xfd7zXZ\0".to_vec(),
        b"\x1f".to_vec(),
        b"\x1f\x8b".to_vec(),
        b"\x28\xb5\x2f".to_vec(),
    ] {
        for (hint, code) in [
            (Coding::Unspecified, Code::InvalidJson),
            (Coding::Identity, Code::InvalidJson),
            (Coding::Gzip, Code::InvalidGzip),
            (Coding::Zstd, Code::InvalidZstd),
        ] {
            let refusal = decode_with(body.clone(), &hinted(hint)).unwrap_err();
            assert_eq!(refusal.code, code, "{hint:?}: {}", body.escape_ascii());
        }
    }
    // One coding is undone, not two.
    assert_eq!(refused(gzip(&good)), Code::InvalidJson);
}

#[test]
fn a_compressed_body_cut_anywhere_is_refused_whole() {
    let text = batch_of(GOOD);
    let zstd = zstd::bulk::compress(text.as_bytes(), 3).unwrap();
    for (whole, hint, magic_bytes, code) in [
        (gzip(text.as_bytes()), Coding::Gzip, 3, Code::InvalidGzip),
        (stored(text.as_bytes()), Coding::Gzip, 3, Code::InvalidGzip),
        (zstd, Coding::Zstd, 4, Code::InvalidZstd),
    ] {
        for end in 0..whole.len() {
            let body = &whole[..end];
            // What is too short for the magic bytes is known by the hint only.
            let (unhinted, hinted_code) = match end {
                0 => (Code::MissingPayload, Code::MissingPayload),
                _ if end < magic_bytes => (Code::InvalidJson, code),
                _ => (code, code),
            };
            assert_eq!(refused(body), unhinted, "{hint:?} cut at {end}");
            let refusal = decode_with(body, &hinted(hint)).unwrap_err();
            assert_eq!(refusal.code, hinted_code, "{hint:?} cut at {end}");
        }
    }
}

#[test]
fn no_changed_bit_of_a_gzip_body_changes_what_is_read() {
    let text = batch_of(GOOD);
    for whole in [gzip(text.as_bytes()), stored(text.as_bytes())] {
        let mut meaningless = 0;
        for bit in 0..whole.len() * 8 {
            let mut body = whole.clone();
            body[bit / 8] ^= 1 << (bit % 8);
            match decode(body) {
                Ok(batch) => {
                    assert_eq!(batch.view().get(batch.events[0].raw), GOOD);
                    meaningless += 1;
                }
                Err(refusal) if bit < 24 => assert_eq!(refusal.code, Code::InvalidJson),
                Err(refusal) => assert_eq!(refusal.code, Code::InvalidGzip, "bit {bit}"),
            }
        }
        // The time and the place of packing, and bits that fill up a byte.
        assert!(meaningless <= 48 + 3 + 7, "{meaningless} bits");
    }
}

#[test]
fn very_many_small_members_are_one_text() {
    let text = batch_of(&vec![GOOD; 3_000].join(","));
    let coded: Vec<u8> = text.as_bytes().chunks(1).flat_map(stored).collect();
    assert_eq!(outcomes(coded), [Outcome::Accepted; 3_000]);

    let nothing = stored(b"").repeat(100_000);
    assert_eq!(refused(nothing.clone()), Code::MissingPayload);
    let behind = [
        nothing.clone(),
        gzip(batch_of(GOOD).as_bytes()),
        nothing.clone(),
    ]
    .concat();
    assert_eq!(outcomes(behind), [Outcome::Accepted]);
    // The last of them counts as much as the first.
    let mut damaged = [gzip(batch_of(GOOD).as_bytes()), nothing].concat();
    let last_sum = damaged.len() - 8;
    damaged[last_sum] ^= 1;
    assert_eq!(refused(damaged), Code::InvalidGzip);
}
