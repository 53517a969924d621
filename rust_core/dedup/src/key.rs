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
//!
//! Layout of the file `secret`, 28 bytes: magic `PSDSEC01` or `PSDSEC02` (8), secret (16), CRC-32C of
//! the bytes before it (4, little-endian).

use std::ffi::OsStr;
use std::fmt;
use std::hash::Hasher;
use std::path::Path;

use penstock_disk::Filesystem;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::error::{DedupError, at};

const MAGIC_UUID_FIRST: &[u8; 8] = b"PSDSEC01";
const MAGIC_TOKEN_FIRST: &[u8; 8] = b"PSDSEC02";
const SECRET_FILE: &str = "secret";
const SECRET_FILE_BYTES: usize = 28;

/// Identities up to this length are hashed in one piece: uuid and lengths take 32 bytes, an event's
/// name and an id rarely 100; a token, where it is among them, 50.
const MAX_COPIED_BYTES: usize = 256;

/// 128-bit keyed hash of (token, uuid, event, `distinct_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DedupKey(pub [u8; 16]);

impl DedupKey {
    /// As a number; its order is the order in the runs.
    pub(crate) const fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

/// What is hashed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    UuidFirst,
    TokenFirst,
}

/// The secret of a directory, and what its ids are hashes of.
#[derive(Clone, Copy)]
pub(crate) struct Secret {
    bytes: [u8; 16],
    order: Order,
}

/// Makes keys. Cheap to clone; needs no lock.
///
/// Keyed by a secret of the data directory: tokens are public, so with an unkeyed hash an outsider
/// could send ids that collide with a victim's and have its events dropped.
#[derive(Clone)]
pub struct KeyHasher {
    empty: SipHasher13,
    order: Order,
}

/// Makes the keys of one token's events.
pub struct TokenHasher<'a> {
    /// Has what all of them begin with.
    begun: SipHasher13,
    /// The token, if it is still to be hashed.
    token: Option<&'a [u8]>,
    /// Reused: making it anew costs as much as hashing 40 bytes.
    identity: [u8; MAX_COPIED_BYTES],
}

impl KeyHasher {
    pub(crate) fn new(secret: Secret) -> Self {
        Self {
            empty: SipHasher13::new_with_key(&secret.bytes),
            order: secret.order,
        }
    }

    /// Begins with the token of a request. Cost: that of a key.
    pub fn for_token<'a>(&self, token: &'a [u8]) -> TokenHasher<'a> {
        let mut begun = self.empty;
        let token = match self.order {
            Order::UuidFirst => Some(token),
            Order::TokenFirst => {
                begun.write(&(token.len() as u64).to_le_bytes());
                begun.write(token);
                // What follows is then hashed word by word, without shifting.
                let padding = token.len().next_multiple_of(8) - token.len();
                begun.write(&[0; 8][..padding]);
                None
            }
        };
        TokenHasher {
            begun,
            token,
            identity: [0; MAX_COPIED_BYTES],
        }
    }
}

impl TokenHasher<'_> {
    /// Hashes one event's identity.
    ///
    /// Each text is preceded by its length, so no two identities share an encoding.
    pub fn key(&mut self, uuid: &[u8; 16], event: &[u8], distinct_id: &[u8]) -> DedupKey {
        let mut hasher = self.begun;
        let texts = [event, distinct_id];
        let texts = self.token.into_iter().chain(texts);
        // In one piece: each write of its own costs the hasher as much as hashing 40 bytes.
        if let Some(len) = encode(uuid, texts.clone(), &mut self.identity) {
            hasher.write(&self.identity[..len]);
        } else {
            hasher.write(uuid);
            for text in texts {
                hasher.write(&(text.len() as u64).to_le_bytes());
                hasher.write(text);
            }
        }
        DedupKey(hasher.finish128().as_u128().to_be_bytes())
    }
}

/// Encodes an identity into `out` and gives its length; `None` if it is longer.
fn encode<'a>(
    uuid: &[u8; 16],
    texts: impl Iterator<Item = &'a [u8]>,
    out: &mut [u8; MAX_COPIED_BYTES],
) -> Option<usize> {
    let mut rest = &mut out[..];
    let mut put = |bytes: &[u8]| -> Option<()> {
        rest.split_off_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(())
    };
    put(uuid)?;
    for text in texts {
        put(&(text.len() as u64).to_le_bytes())?;
        put(text)?;
    }
    let left = rest.len();
    Some(MAX_COPIED_BYTES - left)
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The state holds the secret (SEC-2).
        formatter.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenHasher<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenHasher")
            .finish_non_exhaustive()
    }
}

/// Reads the secret, or makes one if the directory holds no state yet.
///
/// Durability: on `Ok`, the secret survives a power cut.
pub(crate) fn load_secret(
    filesystem: &dyn Filesystem,
    directory: &Path,
    has_state: bool,
) -> Result<Secret, DedupError> {
    let path = directory.join(SECRET_FILE);
    if !filesystem.exists(&path).map_err(at(&path))? {
        if has_state {
            return Err(DedupError::Secret { path });
        }
        let mut secret = [0; 16];
        let filled = rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| DedupError::Io {
                path: path.clone(),
                source: errno.into(),
            })?;
        assert_eq!(filled, secret.len(), "getrandom fills up to 256 bytes");
        let mut bytes = Vec::with_capacity(SECRET_FILE_BYTES);
        bytes.extend_from_slice(MAGIC_TOKEN_FIRST);
        bytes.extend_from_slice(&secret);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        filesystem
            .publish(directory, OsStr::new(SECRET_FILE), &bytes)
            .map_err(at(&path))?;
        return Ok(Secret {
            bytes: secret,
            order: Order::TokenFirst,
        });
    }
    let file = filesystem.open_read(&path).map_err(at(&path))?;
    let mut bytes = [0; SECRET_FILE_BYTES + 1];
    let read = file.read_at(&mut bytes, 0).map_err(at(&path))?;
    let crc = crc32c::crc32c(&bytes[..24]).to_le_bytes();
    let order = match bytes.first_chunk() {
        Some(MAGIC_UUID_FIRST) => Some(Order::UuidFirst),
        Some(MAGIC_TOKEN_FIRST) => Some(Order::TokenFirst),
        _ => None,
    };
    let Some(order) = order.filter(|_| read == SECRET_FILE_BYTES && bytes[24..28] == crc) else {
        return Err(DedupError::Secret { path });
    };
    let mut secret = [0; 16];
    secret.copy_from_slice(&bytes[8..24]);
    Ok(Secret {
        bytes: secret,
        order,
    })
}

#[cfg(test)]
mod tests {
    use penstock_disk::FaultyFilesystem;

    use super::*;

    const SECRET: [u8; 16] = *b"0123456789abcdef";

    /// By the module's description, in one text.
    fn expected(order: Order, token: &[u8], uuid: &[u8; 16], rest: [&[u8]; 2]) -> DedupKey {
        let with_length = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
        let mut first = [uuid.to_vec(), with_length(token)];
        if order == Order::TokenFirst {
            first.reverse();
            first[0].resize(first[0].len().next_multiple_of(8), 0);
        }
        let identity = [first.concat(), rest.map(with_length).concat()].concat();
        let hash = SipHasher13::new_with_key(&SECRET).hash(&identity);
        DedupKey(hash.as_u128().to_be_bytes())
    }

    #[test]
    fn keys_are_hashes_of_the_text_that_is_described() {
        let long = "d".repeat(2 * MAX_COPIED_BYTES);
        for order in [Order::UuidFirst, Order::TokenFirst] {
            let bytes = SECRET;
            let hasher = KeyHasher::new(Secret { bytes, order });
            for len in 0..long.len() {
                let id = &long.as_bytes()[..len];
                let token = &long.as_bytes()[..len % 60];
                let mut hasher = hasher.for_token(token);
                // What an earlier event left in the buffer is not hashed.
                hasher.key(&[9; 16], b"another event", &[0xff; 100]);
                assert_eq!(
                    hasher.key(&[1; 16], b"event", id),
                    expected(order, token, &[1; 16], [b"event", id]),
                    "{order:?} {len}"
                );
            }
        }
    }

    #[test]
    fn a_directory_keeps_the_order_that_its_ids_were_hashed_in() {
        for (magic, order) in [
            (MAGIC_UUID_FIRST, Order::UuidFirst),
            (MAGIC_TOKEN_FIRST, Order::TokenFirst),
        ] {
            let filesystem = FaultyFilesystem::new();
            let directory = Path::new("/dedup");
            filesystem.create_dir_synced(directory).unwrap();
            let mut bytes = [&magic[..], &SECRET].concat();
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            let publish = |bytes: &[u8]| {
                let name = OsStr::new(SECRET_FILE);
                filesystem.publish(directory, name, bytes).unwrap();
            };
            publish(&bytes);
            let secret = load_secret(&filesystem, directory, true).unwrap();
            assert_eq!(
                KeyHasher::new(secret)
                    .for_token(b"token")
                    .key(&[1; 16], b"event", b"id"),
                expected(order, b"token", &[1; 16], [b"event", b"id"])
            );
            bytes[7] = b'3';
            publish(&bytes);
            let refused = load_secret(&filesystem, directory, true);
            assert!(matches!(refused, Err(DedupError::Secret { .. })));
        }
    }
}
