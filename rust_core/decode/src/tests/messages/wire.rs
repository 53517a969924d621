//! A reader and a writer of protobuf, simple and slow: the other side of ours.

/// What a field holds, by wire type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Number(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

pub(super) use Held::{Bytes, Fixed32, Fixed64, Number};

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

pub(super) fn field(number: u64, held: &Held) -> Vec<u8> {
    let (wire_type, value) = match held {
        Number(value) => (0, varint(*value)),
        Fixed64(bytes) => (1, bytes.to_vec()),
        Bytes(bytes) => (2, [varint(bytes.len() as u64), bytes.clone()].concat()),
        Fixed32(bytes) => (5, bytes.to_vec()),
    };
    [varint(number << 3 | wire_type), value].concat()
}

pub(super) fn message(fields: &[(u64, Held)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(number, held)| field(*number, held))
        .collect()
}

/// Takes a number off the front; `None` if it is cut or has more than 64 bits.
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let len = rest.iter().position(|byte| *byte < 0x80)? + 1;
    let (number, after) = rest.split_at(len);
    *rest = after;
    // In 70 bits and more, so that nothing is lost before it is looked at.
    let wide = number.iter().rev().try_fold(0_u128, |wide, byte| {
        wide.checked_mul(0x80)?.checked_add(u128::from(byte & 0x7f))
    })?;
    if len > 10 {
        None
    } else {
        u64::try_from(wide).ok()
    }
}

fn take_bytes(rest: &mut &[u8], len: u64) -> Option<Vec<u8>> {
    let (bytes, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(bytes.to_vec())
}

/// Takes a field off the front; `None` if it isn't whole or has no meaning.
pub(super) fn take_field(rest: &mut &[u8]) -> Option<(u64, Held)> {
    let tag = take_varint(rest)?;
    let held = match tag & 7 {
        0 => Number(take_varint(rest)?),
        1 => Fixed64(take_bytes(rest, 8)?.try_into().unwrap()),
        2 => {
            let len = take_varint(rest)?;
            Bytes(take_bytes(rest, len)?)
        }
        5 => Fixed32(take_bytes(rest, 4)?.try_into().unwrap()),
        _ => return None,
    };
    (1..1 << 29)
        .contains(&(tag >> 3))
        .then_some((tag >> 3, held))
}

pub(super) fn take_all(mut rest: &[u8]) -> Vec<(u64, Held)> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        fields.push(take_field(&mut rest).unwrap());
    }
    fields
}

pub(super) fn text(text: &str) -> Held {
    Bytes(text.as_bytes().to_vec())
}
