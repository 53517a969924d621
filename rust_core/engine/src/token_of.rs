//! The token of a request that asks for something and captures nothing.

use std::panic::AssertUnwindSafe;

use penstock_decode::{DECODER_VERSION, Workspace, decode_request};
use penstock_model::{
    BodyForm, Code, Coding, DecodeLimits, Endpoint, Payload, Refusal, RequestContext,
};

/// Finds the token that a body names, in every coding and place that captures may have it in.
///
/// `max_decompressed_bytes` bounds what a coded body may become.
///
/// Errors: the body can't be read, names no token, or one that can be none. Whether the token is
/// known is not looked at.
///
/// Cost: one decode; microseconds for the bodies that SDKs ask for flags with.
pub fn token_of(
    payload: &Payload,
    coding: Coding,
    max_decompressed_bytes: u32,
) -> Result<String, Refusal> {
    let context = RequestContext {
        decoder_version: DECODER_VERSION,
        limits: DecodeLimits {
            max_decompressed_bytes,
            ..DecodeLimits::DEFAULT
        },
        // Where any object is taken: one that asks for flags has no event's name.
        endpoint: Endpoint::Engage,
        coding,
        form: BodyForm::Events,
        received_at_us: 0,
        client_address: None,
        sent_at_us: None,
        token: None,
        sdk_info: None,
        cookieless: false,
        uuid_seed: [0; 16],
    };
    let decode = || decode_request(payload, &context, &mut Workspace::default());
    // One tenant's input must not stop the others (SEC-1); nothing outlives the call.
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map(|batch| batch.token().to_owned()),
        Err(_) => Err(Refusal::new(Code::InternalError, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(body: &'static [u8]) -> Result<String, Code> {
        token_of(&Payload::new(body), Coding::Unspecified, 1_000).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_token_of_a_request_for_flags_is_found() {
        assert_eq!(
            find(br#"{"token":"phc_1","distinct_id":"ada"}"#).as_deref(),
            Ok("phc_1")
        );
        assert_eq!(
            find(br#"{"api_key":" phc_1 ","groups":{}}"#).as_deref(),
            Ok("phc_1")
        );
        // {"token":"phc_1"}, as a form of base64.
        let form = b"data=eyJ0b2tlbiI6InBoY18xIn0%3D";
        assert_eq!(find(form).as_deref(), Ok("phc_1"));
    }

    #[test]
    fn a_body_without_a_usable_token_says_so() {
        assert_eq!(find(b""), Err(Code::MissingPayload));
        assert_eq!(find(b"{"), Err(Code::InvalidJson));
        assert_eq!(find(br#"{"distinct_id":"ada"}"#), Err(Code::MissingToken));
        assert_eq!(find(br#"{"token":"phx_secret"}"#), Err(Code::InvalidToken));
    }

    #[test]
    fn a_body_is_bounded() {
        let body = |size: usize| {
            let mut body = br#"{"token":"phc_1"}"#.to_vec();
            body.resize(size, b' ');
            token_of(&Payload::new(body), Coding::Unspecified, 1_000)
        };
        assert!(body(1_000).is_ok());
        assert_eq!(body(1_001).unwrap_err().code, Code::RequestTooLarge);
    }
}
