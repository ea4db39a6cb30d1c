//! One signature has one form: what is accepted encodes to what came.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookward_fuzz::gate::signature::parse_signature;
use hookward_fuzz::rejection::Rejection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    match parse_signature(Some(value)) {
        Ok(signature) => assert_eq!(STANDARD.encode(signature.to_bytes()).as_bytes(), value),
        Err(Rejection::SignatureMissing) => assert!(value.is_empty()),
        Err(rejection) => {
            assert_eq!(rejection, Rejection::SignatureMalformed);
            let canonical = STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == 64);
            assert!(!canonical, "refused though well formed");
        }
    }
});
