//! Any file is read within the bounds, and a body comes back out of each wrapping whose length or
//! encoding is declared.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hookward_fuzz::explain::input::{READINGS_MAX, read};
use libfuzzer_sys::fuzz_target;

/// Each layer makes at most so much of a file: UTF-16 stands for three texts of half as long again.
const GROWTH_MAX: usize = 5;

fn holds(file: &[u8], body: &[u8]) -> bool {
    read(Bytes::copy_from_slice(file)).all.iter().any(|reading| reading.body == body)
}

fuzz_target!(|input: &[u8]| {
    let readings = read(Bytes::copy_from_slice(input)).all;
    assert!((1..=READINGS_MAX).contains(&readings.len()));
    assert_eq!(readings[0].body, input, "the file as it is comes first");
    for reading in &readings {
        assert!(reading.body.len() <= (input.len() + 1) * GROWTH_MAX, "{:?}", reading.forms);
        assert_eq!(reading.forms.is_empty(), std::ptr::eq(reading, &readings[0]));
    }

    let request = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", input.len());
    assert!(holds(&[request.as_bytes(), input, b"\n"].concat(), input));
    let event = format!(r#"{{"headers":{{}},"body":"{}","isBase64Encoded":true}}"#, STANDARD.encode(input));
    assert!(holds(event.as_bytes(), input));
});
