#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| penstock_fuzz::decode::base64(input));
