//! The text that was signed and the number that is judged are the same.
#![no_main]

use hookward_fuzz::gate::signature::parse_timestamp;
use hookward_fuzz::rejection::Rejection;
use libfuzzer_sys::fuzz_target;

/// The first number of 14 digits.
const BEYOND: u64 = 10_000_000_000_000;

fuzz_target!(|value: &[u8]| {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    let plain = number.filter(|number| number.to_string().as_bytes() == value);
    match parse_timestamp(Some(value)) {
        Ok(text) => {
            assert_eq!(text.as_bytes(), value);
            assert!(plain.is_some_and(|number| (1..BEYOND).contains(&number)));
        }
        Err(Rejection::TimestampMissing) => assert!(value.is_empty()),
        Err(rejection) => {
            assert_eq!(rejection, Rejection::TimestampMalformed);
            assert!(!plain.is_some_and(|number| (1..BEYOND).contains(&number)), "refused though plain");
        }
    }
});
