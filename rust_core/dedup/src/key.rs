//! Event ids as keyed hashes.
//!
//! Layout of the file `secret`, 28 bytes: magic `PSDSEC01` (8), secret (16), CRC-32C of the bytes
//! before it (4, little-endian).

use std::ffi::OsStr;
use std::fmt;
use std::hash::Hasher;
use std::path::Path;

use penstock_disk::Filesystem;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::error::{DedupError, at};

const MAGIC: &[u8; 8] = b"PSDSEC01";
const SECRET_FILE: &str = "secret";
const SECRET_FILE_BYTES: usize = 28;

/// Identities up to this length are hashed in one piece: uuid and lengths take 40 bytes, a token 50,
/// an event's name and an id rarely 100.
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

/// Makes keys. Cheap to clone; needs no lock.
///
/// Keyed by a secret of the data directory: tokens are public, so with an unkeyed hash an outsider
/// could send ids that collide with a victim's and have its events dropped.
#[derive(Clone)]
pub struct KeyHasher {
    empty: SipHasher13,
}

impl KeyHasher {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self {
            empty: SipHasher13::new_with_key(&secret),
        }
    }

    /// Hashes one event's identity.
    ///
    /// Each text is preceded by its length, so no two identities share an encoding.
    pub fn key(&self, token: &[u8], uuid: &[u8; 16], event: &[u8], distinct_id: &[u8]) -> DedupKey {
        let texts = [token, event, distinct_id];
        let mut hasher = self.empty;
        // In one piece: each write of its own costs the hasher as much as hashing 40 bytes.
        let mut identity = [0; MAX_COPIED_BYTES];
        if let Some(len) = encode(uuid, texts, &mut identity) {
            hasher.write(&identity[..len]);
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
fn encode(uuid: &[u8; 16], texts: [&[u8]; 3], out: &mut [u8; MAX_COPIED_BYTES]) -> Option<usize> {
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

/// Reads the secret, or makes one if the directory holds no state yet.
///
/// Durability: on `Ok`, the secret survives a power cut.
pub(crate) fn load_secret(
    filesystem: &dyn Filesystem,
    directory: &Path,
    has_state: bool,
) -> Result<[u8; 16], DedupError> {
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
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&secret);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        filesystem
            .publish(directory, OsStr::new(SECRET_FILE), &bytes)
            .map_err(at(&path))?;
        return Ok(secret);
    }
    let file = filesystem.open_read(&path).map_err(at(&path))?;
    let mut bytes = [0; SECRET_FILE_BYTES + 1];
    let read = file.read_at(&mut bytes, 0).map_err(at(&path))?;
    let crc = crc32c::crc32c(&bytes[..24]).to_le_bytes();
    if read != SECRET_FILE_BYTES || &bytes[..8] != MAGIC || bytes[24..28] != crc {
        return Err(DedupError::Secret { path });
    }
    let mut secret = [0; 16];
    secret.copy_from_slice(&bytes[8..24]);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_identities_hash_like_short_ones() {
        let hasher = KeyHasher::new([7; 16]);
        let long = "d".repeat(2 * MAX_COPIED_BYTES);
        for len in 0..long.len() {
            let id = &long.as_bytes()[..len];
            let mut streamed = hasher.empty;
            streamed.write(&[1; 16]);
            for text in [&b"token"[..], b"event", id] {
                streamed.write(&(text.len() as u64).to_le_bytes());
                streamed.write(text);
            }
            let expected = DedupKey(streamed.finish128().as_u128().to_be_bytes());
            assert_eq!(
                hasher.key(b"token", &[1; 16], b"event", id),
                expected,
                "{len}"
            );
        }
    }
}
