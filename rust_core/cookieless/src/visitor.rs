//! From a visit and a salt to ids.

use std::hash::Hasher as _;
use std::net::IpAddr;

use penstock_model::{
    Uuid, VISITOR_DEVICE_ID_PREFIX, VISITOR_DISTINCT_ID_PREFIX, Visit, VisitorIds,
};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::salts::Salt;
use crate::site::site_of;

/// Characters of `$cookieless_extra` that count (`posthog-protocol.md` §3.5).
const MAX_EXTRA_CHARACTERS: usize = 100;

/// The ids of a visit's visitor in a project, on the day of `salt` that began at `begun_us`.
///
/// A keyed hash with 128 bits of secret and 128 of result: while the salt is there its owner could
/// try out visitors, and nobody once it is gone. Each text is preceded by its length, so no two
/// visitors are hashed alike.
pub(crate) fn ids_of(project: &str, visit: &Visit<'_>, salt: Salt, begun_us: i64) -> VisitorIds {
    let address = normal_address(visit.address);
    let site = site_of(visit.host);
    let mut identity = Vec::with_capacity(256);
    for text in [
        project,
        &address,
        &site,
        visit.user_agent,
        first_characters(visit.extra, MAX_EXTRA_CHARACTERS),
    ] {
        identity.extend_from_slice(&(text.len() as u64).to_le_bytes());
        identity.extend_from_slice(text.as_bytes());
    }
    let mut hasher = SipHasher24::new_with_key(&salt.0);
    hasher.write(&identity);
    let hash = hasher.finish128().as_u128();
    VisitorIds {
        distinct_id: format!("{VISITOR_DISTINCT_ID_PREFIX}{hash:032x}"),
        device_id: format!("{VISITOR_DEVICE_ID_PREFIX}{hash:032x}"),
        session_id: session_id(hash, begun_us),
    }
}

/// One writing for an address, however the client wrote it.
fn normal_address(address: &str) -> String {
    let address = address.trim();
    match address.parse::<IpAddr>() {
        Ok(parsed) => parsed.to_canonical().to_string(),
        Err(_) => address.to_owned(),
    }
}

fn first_characters(text: &str, count: usize) -> &str {
    match text.char_indices().nth(count) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// A UUID of version 7 with the beginning of the day as its time and the hash as its random part:
/// one session a day, as in the stateless mode of PostHog's service.
fn session_id(hash: u128, begun_us: i64) -> String {
    let milliseconds = u128::try_from(begun_us / 1_000).unwrap_or(0) & ((1 << 48) - 1);
    // Version, variant, and 74 bits of the hash around them.
    let mut bits = (milliseconds << 80) | (hash >> 48);
    bits = (bits & !(0xf << 76)) | (0x7 << 76);
    bits = (bits & !(0x3 << 62)) | (0x2 << 62);
    Uuid(bits.to_be_bytes()).to_string()
}
