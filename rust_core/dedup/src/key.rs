//! Event ids as keyed hashes: SipHash-1-3 with 128 bits of result, of a text that no other identity
//! has. Where the secret is of format 2, that text is
//!
//! ```text
//! length of token (8), token, zeros up to a multiple of 8 | uuid (16),
//! length of event (8), event, length of distinct_id (8), distinct_id
//! ```
//!
//! with lengths little-endian. All events of a request have one token, so what is before the bar is
//! hashed once for all of them. In format 1 the uuid is first, and no zeros follow the token; a
//! directory that was made so stays so, since its ids are such hashes.

use std::fmt;

use crate::pack::Packer;
use crate::secret::{Order, Secret};
use crate::sip::{LANES, Row, State};

/// Longer identities are hashed one by one. Uuid, lengths and end take 33 bytes, an event's name and
/// an id rarely 100; a token, where it is among them, 50.
const MAX_ROWS: usize = 32;

/// 128-bit keyed hash of (token, uuid, event, `distinct_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DedupKey(pub [u8; 16]);

impl DedupKey {
    /// As a number; its order is the order in the runs.
    pub(crate) const fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    const fn of(hash: u128) -> Self {
        Self(hash.to_be_bytes())
    }
}

/// What tells an event from all others of its token.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub uuid: &'a [u8; 16],
    pub event: &'a [u8],
    pub distinct_id: &'a [u8],
}

/// Makes keys. Cheap to clone; needs no lock.
///
/// Keyed by a secret of the data directory: tokens are public, so with an unkeyed hash an outsider
/// could send ids that collide with a victim's and have its events dropped.
#[derive(Clone)]
pub struct KeyHasher {
    empty: State,
    order: Order,
}

impl KeyHasher {
    pub(crate) fn new(secret: Secret) -> Self {
        Self {
            empty: State::new(secret.bytes),
            order: secret.order,
        }
    }

    /// The key of one identity.
    pub fn key(&self, token: &[u8], identity: Identity<'_>) -> DedupKey {
        self.begin(token).key(identity)
    }

    /// Appends the keys of events of one token, in order; `None` for one without an identity.
    /// Cost: 28 ns each at 50 a request and 77 bytes each, with AVX2.
    pub fn append_keys<'a>(
        &self,
        token: &[u8],
        identities: impl Iterator<Item = Option<Identity<'a>>>,
        keys: &mut Vec<Option<DedupKey>>,
    ) {
        let begun = self.begin(token);
        if identities.size_hint().1 == Some(1) {
            // A request of one event, which would share the cost of a group with none.
            keys.extend(identities.map(|identity| Some(begun.key(identity?))));
            return;
        }
        let mut group = Group::default();
        for identity in identities {
            let place = keys.len();
            keys.push(None);
            let Some(identity) = identity else { continue };
            if begun.words(identity) > MAX_ROWS {
                keys[place] = Some(begun.key(identity));
                continue;
            }
            group.add(&begun, identity, place);
            if group.len == LANES {
                group.hash_into(&begun, keys);
            }
        }
        group.hash_into(&begun, keys);
    }

    /// Hashes what all identities of a token begin with.
    fn begin<'a>(&self, token: &'a [u8]) -> Begun<'a> {
        let mut begun = Begun {
            state: self.empty,
            bytes: 0,
            token: Some(token),
        };
        if self.order == Order::TokenFirst {
            let mut packer = Packer::new(|word| begun.state.absorb(word));
            packer.text(token);
            begun.bytes = packer.fill();
            begun.token = None;
        }
        begun
    }
}

/// What is the same for all events of a request.
struct Begun<'a> {
    /// Where hashing is.
    state: State,
    /// What was hashed so far: a multiple of 8.
    bytes: usize,
    /// The token, if it is still to be hashed.
    token: Option<&'a [u8]>,
}

impl Begun<'_> {
    /// Each text is preceded by its length, so no two identities share an encoding.
    #[inline]
    fn pack(&self, identity: Identity<'_>, sink: impl FnMut(u64)) {
        let mut packer = Packer::new(sink);
        packer.bytes_16(identity.uuid);
        if let Some(token) = self.token {
            packer.text(token);
        }
        packer.text(identity.event);
        packer.text(identity.distinct_id);
        packer.end(self.bytes);
    }

    /// How many [`Self::pack`] gives.
    fn words(&self, identity: Identity<'_>) -> usize {
        let texts = [identity.event, identity.distinct_id];
        let texts = self.token.into_iter().chain(texts);
        let bytes: usize = texts.map(|text| size_of::<u64>() + text.len()).sum();
        (identity.uuid.len() + bytes) / 8 + 1
    }

    fn key(&self, identity: Identity<'_>) -> DedupKey {
        let mut state = self.state;
        self.pack(identity, |word| state.absorb(word));
        DedupKey::of(state.finish())
    }
}

/// Identities that are hashed together.
struct Group {
    rows: [Row; MAX_ROWS],
    /// Words of each.
    lengths: [usize; LANES],
    /// Where their keys go.
    places: [usize; LANES],
    len: usize,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            rows: [[0; LANES]; MAX_ROWS],
            lengths: [0; LANES],
            places: [0; LANES],
            len: 0,
        }
    }
}

impl Group {
    fn add(&mut self, begun: &Begun<'_>, identity: Identity<'_>, place: usize) {
        let lane = self.len;
        let mut words = 0;
        begun.pack(identity, |word| {
            self.rows[words][lane] = word;
            words += 1;
        });
        self.lengths[lane] = words;
        self.places[lane] = place;
        self.len += 1;
    }

    /// Puts the keys to their places, and begins anew.
    fn hash_into(&mut self, begun: &Begun<'_>, keys: &mut [Option<DedupKey>]) {
        if self.len == 0 {
            return;
        }
        let places = &self.places[..self.len];
        let lengths = &self.lengths[..self.len];
        let hashes = begun.state.finish_all(&self.rows, lengths);
        for (place, hash) in places.iter().zip(hashes) {
            keys[*place] = Some(DedupKey::of(hash));
        }
        self.len = 0;
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state holds the secret (SEC-2).
        formatter.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher as _;

    use siphasher::sip128::{Hasher128 as _, SipHasher13};

    use super::*;

    const SECRET: [u8; 16] = *b"0123456789abcdef";

    /// By the module's description, in one text, by a hasher of others.
    fn expected(order: Order, token: &[u8], identity: Identity<'_>) -> DedupKey {
        let with_length = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
        let mut first = [identity.uuid.to_vec(), with_length(token)];
        if order == Order::TokenFirst {
            first.reverse();
            first[0].resize(first[0].len().next_multiple_of(8), 0);
        }
        let rest = [identity.event, identity.distinct_id].map(with_length);
        let mut hasher = SipHasher13::new_with_key(&SECRET);
        hasher.write(&[first.concat(), rest.concat()].concat());
        DedupKey(hasher.finish128().as_u128().to_be_bytes())
    }

    fn hasher(order: Order) -> KeyHasher {
        KeyHasher::new(Secret {
            bytes: SECRET,
            order,
        })
    }

    #[test]
    fn a_key_is_the_hash_of_the_text_that_is_described() {
        let long = [7; 600];
        for order in [Order::UuidFirst, Order::TokenFirst] {
            let hasher = hasher(order);
            for len in 0..long.len() {
                let identity = Identity {
                    uuid: &[1; 16],
                    event: b"event",
                    distinct_id: &long[..len],
                };
                let token = &long[..len % 60];
                assert_eq!(
                    hasher.key(token, identity),
                    expected(order, token, identity),
                    "{order:?} {len}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn keys_of_many_are_the_keys_of_each(
            token_first: bool,
            token in proptest::collection::vec(0_u8.., 0..50),
            parts in proptest::collection::vec(
                proptest::option::of((
                    0_u128..,
                    proptest::collection::vec(0_u8.., 0..30),
                    proptest::collection::vec(0_u8.., 0..300),
                )),
                0..20,
            ),
        ) {
            let order = if token_first { Order::TokenFirst } else { Order::UuidFirst };
            let uuids: Vec<_> = parts
                .iter()
                .map(|part| part.as_ref().map_or([0; 16], |part| part.0.to_le_bytes()))
                .collect();
            let identities = || parts.iter().zip(&uuids).map(|(part, uuid)| {
                part.as_ref().map(|(_, event, distinct_id)| Identity { uuid, event, distinct_id })
            });
            // What is there already stays.
            let mut keys = vec![None, Some(DedupKey([9; 16]))];
            hasher(order).append_keys(&token, identities(), &mut keys);
            let mut wanted = vec![None, Some(DedupKey([9; 16]))];
            wanted.extend(identities().map(|one| Some(expected(order, &token, one?))));
            proptest::prop_assert_eq!(keys, wanted);
        }
    }
}
