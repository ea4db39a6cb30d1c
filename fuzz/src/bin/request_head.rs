//! What the strict judgement of a request header lets through, the parser behind it reads in the
//! same way, or refuses.
#![no_main]

use std::time::Duration;

use hookward_fuzz::head::{HeadLimits, judge};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    timeout: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    header_bytes: 2048,
    header_count: 20,
    uri_bytes: 200,
    tls: false,
};

fuzz_target!(|header: &[u8]| {
    if judge(header, &LIMITS).is_err() {
        return;
    }
    assert!(header.len() <= LIMITS.header_bytes);
    let mut fields = [httparse::EMPTY_HEADER; LIMITS.header_count];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(end)) = request.parse(header) else { return };
    assert_eq!(end, header.len(), "both end the header at the same place");
    assert!(request.path.unwrap().len() <= LIMITS.uri_bytes);

    let lines = header.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(request.headers.len(), lines - 2, "a field for each line between the first and the empty one");
    let named = |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert!(named("content-length") + named("transfer-encoding") <= 1, "the body has one end");
    let hosts = named("host");
    assert!(hosts == 1 || (hosts == 0 && request.version == Some(0)));
});
