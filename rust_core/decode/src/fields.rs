//! Finds the field that a key names.
//!
//! An event has some thirty keys, most of which name nothing of interest. A `match` by length
//! becomes a jump that the processor guesses wrong for every other key; here each key costs one
//! multiplication and one comparison, and only the few keys that are fields take the other way.

/// Slots of a table: so many that a dozen names find a multiplier without a collision at once.
const SLOTS: usize = 64;

/// Keys and the fields that they name, several keys may name the same.
///
/// `NO_FIELD`, the number of fields, is given for a key that names none. Callers keep a place for it
/// that nobody reads, so that storing needs no branch.
#[derive(Debug)]
pub(crate) struct FieldTable<const NO_FIELD: usize> {
    multiplier: u64,
    slots: [(&'static [u8], usize); SLOTS],
}

impl<const NO_FIELD: usize> FieldTable<NO_FIELD> {
    /// Builds the table, at compile time. Fields are below `NO_FIELD`; names are not empty.
    pub(crate) const fn new(names: &[(&'static [u8], usize)]) -> Self {
        let mut multiplier = 0x9e37_79b9_7f4a_7c15_u64;
        loop {
            if let Some(slots) = Self::fill(names, multiplier) {
                return Self { multiplier, slots };
            }
            multiplier = multiplier.wrapping_mul(0xd134_2543_de82_ef95) | 1;
        }
    }

    /// `None` if two names meet in one slot.
    const fn fill(
        names: &[(&'static [u8], usize)],
        multiplier: u64,
    ) -> Option<[(&'static [u8], usize); SLOTS]> {
        let mut slots: [(&'static [u8], usize); SLOTS] = [(b"", NO_FIELD); SLOTS];
        let mut index = 0;
        while index < names.len() {
            let (name, field) = names[index];
            assert!(!name.is_empty() && field < NO_FIELD, "a name and its field");
            let slot = slot_of(name, multiplier);
            if !slots[slot].0.is_empty() {
                return None;
            }
            slots[slot] = (name, field);
            index += 1;
        }
        Some(slots)
    }

    /// The field that `key` names, or `NO_FIELD`.
    #[expect(clippy::inline_always, reason = "runs for each member of each event")]
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8]) -> usize {
        let (name, field) = self.slots[slot_of(key, self.multiplier)];
        if name == key { field } else { NO_FIELD }
    }
}

/// By the length, the middle byte and the last one, in which the names differ.
#[inline]
const fn slot_of(key: &[u8], multiplier: u64) -> usize {
    let len = key.len();
    if len == 0 {
        return 0;
    }
    let traits = len as u64 | (key[len / 2] as u64) << 32 | (key[len - 1] as u64) << 40;
    // The six highest bits, in which every bit of the factors counts.
    (traits.wrapping_mul(multiplier) >> 58) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FIELD: usize = 2;

    static TABLE: FieldTable<NO_FIELD> = FieldTable::new(&[(b"one", 0), (b"two", 1), (b"uno", 0)]);

    #[test]
    fn names_find_their_field_and_nothing_else_does() {
        assert_eq!(TABLE.find(b"one"), 0);
        assert_eq!(TABLE.find(b"two"), 1);
        assert_eq!(TABLE.find(b"uno"), 0);
        for other in [&b""[..], b"o", b"on", b"onE", b"ones", b"xne", b"two\0"] {
            assert_eq!(TABLE.find(other), NO_FIELD, "{other:?}");
        }
    }

    #[test]
    fn keys_of_any_length_are_looked_up() {
        for len in 0..2_000 {
            assert_eq!(TABLE.find(&vec![b'x'; len]), NO_FIELD);
        }
    }
}
