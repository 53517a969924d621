//! The secret of a data directory, by which its ids are hashed, and what they are hashes of.
//!
//! Layout of the file `secret`, 28 bytes: magic `PSDSEC01` or `PSDSEC02` (8), secret (16), CRC-32C of
//! the bytes before it (4, little-endian). Which texts a format hashes: see [`crate::key`].

use std::ffi::OsStr;
use std::path::Path;

use penstock_disk::Filesystem;

use crate::error::{DedupError, at};

const MAGIC_UUID_FIRST: &[u8; 8] = b"PSDSEC01";
const MAGIC_TOKEN_FIRST: &[u8; 8] = b"PSDSEC02";
const SECRET_FILE: &str = "secret";
const SECRET_FILE_BYTES: usize = 28;

/// What is hashed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    UuidFirst,
    TokenFirst,
}

/// The secret of a directory, and what its ids are hashes of.
#[derive(Clone, Copy)]
pub(crate) struct Secret {
    pub(crate) bytes: [u8; 16],
    pub(crate) order: Order,
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
            assert_eq!((secret.bytes, secret.order), (SECRET, order));
            bytes[7] = b'3';
            publish(&bytes);
            let refused = load_secret(&filesystem, directory, true);
            assert!(matches!(refused, Err(DedupError::Secret { .. })));
        }
    }
}
