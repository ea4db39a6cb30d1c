//! No path that an app could take for a verified one is passed unverified: apps here decode once or
//! twice, merge slashes, resolve dots, cut parameters before or after, fold case, in any combination.
#![no_main]

use hookward_fuzz::router::{Found, Guard, PathPattern, Router};
use libfuzzer_sys::fuzz_target;

const VERIFIED: &str = "/webhooks";

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let [byte, behind @ ..] = rest {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex
            .filter(|_| *byte == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')))
        {
            Some(value) => {
                out.push(value);
                rest = &behind[2..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    out
}

/// As a server that cuts parameters before it decodes.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
    names.collect::<Vec<_>>().join(&b'/')
}

/// One app: which of the liberties it takes.
fn app_reads(path: &[u8], liberties: u32) -> Vec<u8> {
    let takes = |n: u32| liberties & (1 << n) != 0;
    let mut path = path.to_vec();
    if takes(8) {
        path = without_parameters(&path);
    }
    for n in [0, 1] {
        if takes(n) {
            path = decoded(&path);
        }
    }
    if takes(2) {
        for byte in &mut path {
            if *byte == b'\\' {
                *byte = b'/';
            }
        }
    }
    if takes(3) {
        path.make_ascii_lowercase();
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        let segment = if takes(4) { segment.split(|byte| *byte == b';').next().unwrap_or_default() } else { segment };
        match segment {
            b"" if takes(5) => {}
            b"." if takes(6) => {}
            b".." if takes(6) => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    while takes(7) && segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    let mut read = Vec::new();
    for segment in segments {
        read.push(b'/');
        read.extend_from_slice(segment);
    }
    read
}

fuzz_target!(|path: &[u8]| {
    // What confuses is short, and each path is read by 512 apps.
    if path.len() > 128 || path.first() != Some(&b'/') || path.contains(&b'?') || path == VERIFIED.as_bytes() {
        return;
    }
    let router = Router::new([
        (PathPattern::Prefix("/".into()), Guard::Open, false),
        (PathPattern::Exact(VERIFIED.into()), Guard::Ends, true),
    ]);
    if router.find(path) != Found::Route(&false) {
        return;
    }
    for liberties in 0..1 << 9 {
        assert_ne!(app_reads(path, liberties), VERIFIED.as_bytes(), "an app with the liberties {liberties:09b}");
    }
});
