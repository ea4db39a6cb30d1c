//! Which route a path belongs to, and the guard against paths that an app would read as another.
//! Pure.
//!
//! Routes match the path as it was sent, byte for byte. What an app makes of a path may differ:
//! `//webhooks`, `/%77ebhooks` and `/x/../webhooks` reach the handler of `/webhooks` in one
//! framework or another. So a request that is about to be passed on unverified is also routed by
//! every reading that an app may come to, and if one of them belongs to a verifying route, it is
//! passed nowhere. Nor is one with a verified path at its end (`/index.php/webhooks`): front controllers and
//! mount points put something before it. There is no single most lenient reading: to an app that takes `\` for a slash,
//! `/webhooks;\..` is the root; to one that only cuts parameters, it is `/webhooks`.

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// This path, byte for byte.
    Exact(String),
    /// Every path that begins so (`/hooks/*`).
    Prefix(String),
    /// This path and every one below it: a gateway that asks for a decision appends the path that
    /// it was asked for.
    Tree(String),
}

impl PathPattern {
    /// The path without what makes it a pattern.
    pub fn path(&self) -> &str {
        match self {
            PathPattern::Exact(path) | PathPattern::Prefix(path) | PathPattern::Tree(path) => path,
        }
    }

    /// Whether it takes this path.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Exact(exact) => path == exact.as_bytes(),
            PathPattern::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            PathPattern::Tree(root) if root == "/" => true,
            PathPattern::Tree(root) => {
                path.strip_prefix(root.as_bytes()).is_some_and(|below| matches!(below.first(), None | Some(b'/')))
            }
        }
    }

    /// Whether it takes every path.
    fn is_root(&self) -> bool {
        matches!(self.path(), "" | "/") && !matches!(self, PathPattern::Exact(_))
    }

    /// Exact before the others, long before short.
    fn rank(&self) -> (bool, usize) {
        (matches!(self, PathPattern::Exact(_)), self.path().len())
    }

    /// The patterns of the readings of what this one takes.
    fn readings(&self) -> Vec<PathPattern> {
        // A path in the configuration with more readings than that counts as written.
        let readings = readings(self.path().as_bytes()).unwrap_or_else(|| vec![folded(self.path().as_bytes())]);
        let texts = readings.iter().map(|path| String::from_utf8_lossy(path).into_owned());
        texts
            .map(|text| match self {
                PathPattern::Exact(_) => PathPattern::Exact(text),
                PathPattern::Prefix(path) if !path.ends_with('/') => PathPattern::Prefix(text),
                PathPattern::Tree(_) | PathPattern::Prefix(_) => PathPattern::Tree(text),
            })
            .collect()
    }
}

/// What a route means for the paths that are passed unverified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// It passes without verifying.
    Open,
    /// It verifies: what an app may take for its path is not passed.
    Path,
    /// The same, and no path is passed that ends in its own by whole segments.
    Ends,
}

/// A route by its path.
#[derive(Debug)]
struct Entry {
    pattern: PathPattern,
    /// Its path as a reading of it would be.
    folded: Vec<u8>,
    guard: Guard,
    /// Its place among the targets.
    target: usize,
}

impl Entry {
    /// The same for each reading of its path.
    fn as_read(&self) -> Vec<Entry> {
        let &Entry { guard, target, .. } = self;
        let patterns = self.pattern.readings().into_iter();
        patterns.map(|pattern| Entry { pattern, folded: Vec::new(), guard, target }).collect()
    }
}

/// Routes by path.
#[derive(Debug)]
pub struct Router<T> {
    targets: Vec<T>,
    /// Tried in this order against the path as sent.
    as_sent: Vec<Entry>,
    /// Tried in this order against each reading; empty where nothing is passed unverified.
    as_read: Vec<Entry>,
}

/// In what a path differs from that of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// In slashes, the case of letters or escapes.
    Spelling,
    /// In segments before it, as a proxy adds or takes them away.
    Before,
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<T> {
    /// To this route.
    Route(T),
    /// To no route.
    Nowhere,
    /// To a route that passes without verifying, but an app may take it for the path of a route
    /// that verifies.
    Confusable,
}

impl<T> Router<T> {
    /// Routes with their pattern and what they mean for others; no two of one pattern.
    pub fn new(routes: impl IntoIterator<Item = (PathPattern, Guard, T)>) -> Router<T> {
        let mut targets = Vec::new();
        let mut as_sent = Vec::new();
        for (pattern, guard, target) in routes {
            let folded = folded(pattern.path().as_bytes());
            as_sent.push(Entry { pattern, folded, guard, target: targets.len() });
            targets.push(target);
        }
        let mut as_read = Vec::new();
        if as_sent.iter().any(|entry| entry.guard == Guard::Open) {
            as_read.extend(as_sent.iter().flat_map(Entry::as_read));
        }
        as_sent.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.rank()));
        // Of two that become one, the one that verifies stands first.
        as_read.sort_by_key(|entry| std::cmp::Reverse((entry.pattern.rank(), entry.guard)));
        Router { targets, as_sent, as_read }
    }

    /// Where a path leads, without its query.
    pub fn find(&self, path: &[u8]) -> Found<&T> {
        let Some(entry) = self.as_sent.iter().find(|entry| entry.pattern.matches(path)) else {
            return Found::Nowhere;
        };
        if entry.guard == Guard::Open && self.is_confusable(path, &entry.pattern) {
            return Found::Confusable;
        }
        Found::Route(&self.targets[entry.target])
    }

    /// Whether an app may take a path for a verified one, where this pattern would let it pass.
    fn is_confusable(&self, path: &[u8], passing: &PathPattern) -> bool {
        // A path that the configuration names as a whole is meant, whatever it ends in.
        let is_named = matches!(passing, PathPattern::Exact(_));
        let Some(readings) = readings(path) else { return true };
        readings.iter().any(|path| {
            !is_plain_text(path)
                || self.read_as(path).is_some_and(|entry| entry.guard != Guard::Open)
                || (!is_named && self.ends_in_verified(path))
        })
    }

    /// Whether a path ends in the path of a route that guards such ends.
    fn ends_in_verified(&self, path: &[u8]) -> bool {
        if self.as_read.iter().all(|entry| entry.guard != Guard::Ends || entry.pattern.is_root()) {
            return false;
        }
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let mut ends = slashes.map(|(at, _)| &path[at..]);
        let leads_to_verified =
            |end: &[u8]| self.read_as(end).is_some_and(|entry| entry.guard == Guard::Ends && !entry.pattern.is_root());
        ends.by_ref().take(SEGMENTS_MAX).any(leads_to_verified) || ends.next().is_some()
    }

    fn read_as(&self, path: &[u8]) -> Option<&Entry> {
        self.as_read.iter().find(|entry| entry.pattern.matches(path))
    }

    /// The verifying route for whose path an app may take one that is not passed; `None` where the path
    /// itself is the reason: control characters, no text, or more ways to read it than are looked at.
    pub fn confused_with(&self, path: &[u8]) -> Option<&T> {
        let read_as = |path: &[u8], at: usize| {
            let entry = self.read_as(&path[at..]).filter(|entry| entry.guard != Guard::Open)?;
            (at == 0 || (entry.guard == Guard::Ends && !entry.pattern.is_root())).then_some(entry)
        };
        let found = readings(path)?.iter().filter(|path| is_plain_text(path)).find_map(|path| {
            let ends = (0..path.len()).filter(|at| path[*at] == b'/').take(SEGMENTS_MAX);
            ends.into_iter().find_map(|at| read_as(path, at))
        });
        found.map(|entry| &self.targets[entry.target])
    }

    /// The route that a path without one nearly has, and in what they differ.
    pub fn near_miss(&self, path: &[u8]) -> Option<(&T, Miss)> {
        let readings = readings(path)?;
        let miss = |entry: &Entry| {
            let own = &entry.folded;
            if own == b"/" {
                return None;
            }
            if readings.contains(own) {
                return Some(Miss::Spelling);
            }
            let is_end = |path: &[u8], end: &[u8]| end.len() > 1 && path.ends_with(end);
            readings.iter().any(|path| is_end(path, own) || is_end(own, path)).then_some(Miss::Before)
        };
        let near = self.as_sent.iter().filter_map(|entry| Some((&self.targets[entry.target], miss(entry)?)));
        near.min_by_key(|(_, miss)| *miss)
    }

    /// Every route.
    pub fn targets(&self) -> &[T] {
        &self.targets
    }
}

/// Most readings of one path. Each liberty at most doubles them, and nobody honest writes a path
/// that gives room for seven.
const READINGS_MAX: usize = 64;

/// Most segments of a path that is passed where ends are guarded: each is looked at.
const SEGMENTS_MAX: usize = 64;

/// What an app may do to a path before it looks for a handler; `None` if that changes nothing.
type Liberty = fn(&[u8]) -> Option<Vec<u8>>;

/// Apps take any of these, in any order.
const LIBERTIES: [Liberty; 7] =
    [percent_decoded, slashes_turned, parameters_cut, slashes_merged, dots_resolved, query_cut, format_cut];

/// Every path that an app could take this one for, each without regard to case and without a slash
/// at its end. `None` if there are more than [`READINGS_MAX`].
fn readings(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut readings = vec![path.to_vec()];
    let mut looked_at = 0;
    while looked_at < readings.len() {
        for liberty in LIBERTIES {
            let Some(reading) = liberty(&readings[looked_at]) else { continue };
            if readings.contains(&reading) {
                continue;
            }
            if readings.len() == READINGS_MAX {
                return None;
            }
            readings.push(reading);
        }
        looked_at += 1;
    }
    Some(readings.iter().map(|reading| folded(reading)).collect())
}

/// Without regard to case, and without slashes, dots and white space at the end.
fn folded(path: &[u8]) -> Vec<u8> {
    let path = match std::str::from_utf8(path) {
        Ok(text) => text.trim_end_matches(|end: char| matches!(end, '/' | '.') || end.is_whitespace()).as_bytes(),
        Err(_) => path,
    };
    match path {
        b"" => vec![b'/'],
        path => case_folded(path.to_vec()),
    }
}

/// Whether a path is text without control characters. Apps ignore, cut off or replace anything else.
fn is_plain_text(path: &[u8]) -> bool {
    match std::str::from_utf8(path) {
        Ok(text) if text.is_ascii() => !text.bytes().any(|byte| byte.is_ascii_control()),
        Ok(text) => !text.contains(char::is_control),
        Err(_) => false,
    }
}

/// `\` as `/`.
fn slashes_turned(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b'\\').then(|| path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect())
}

/// Each segment without what follows a `;`.
fn parameters_cut(path: &[u8]) -> Option<Vec<u8>> {
    path.contains(&b';').then(|| {
        let names = path.split(|byte| *byte == b'/').map(|segment| before(segment, |byte| byte == b';'));
        names.collect::<Vec<_>>().join(&b'/')
    })
}

/// One slash for several.
fn slashes_merged(path: &[u8]) -> Option<Vec<u8>> {
    path.windows(2).any(|pair| pair == b"//").then(|| {
        let mut merged = path.to_vec();
        merged.dedup_by(|next, byte| *next == b'/' && *byte == b'/');
        merged
    })
}

/// Without `.` and `..` segments.
fn dots_resolved(path: &[u8]) -> Option<Vec<u8>> {
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    path.split(|byte| *byte == b'/').any(is_dots).then(|| {
        let mut resolved: Vec<&[u8]> = Vec::new();
        for segment in path.split(|byte| *byte == b'/').skip(1) {
            match segment {
                b"." => {}
                b".." => drop(resolved.pop()),
                name => resolved.push(name),
            }
        }
        let mut path = vec![b'/'];
        path.extend(resolved.join(&b'/'));
        path
    })
}

/// Cut at a `?` or `#`, which was encoded when the path came.
fn query_cut(path: &[u8]) -> Option<Vec<u8>> {
    let is_end = |byte: u8| matches!(byte, b'?' | b'#');
    path.iter().any(|byte| is_end(*byte)).then(|| before(path, is_end).to_vec())
}

/// Without the name of a format at the end (`.json`), which routers of frameworks take for no part of the path.
fn format_cut(path: &[u8]) -> Option<Vec<u8>> {
    let dot = path.iter().rposition(|byte| *byte == b'.')?;
    let (name, format) = (&path[..dot], &path[dot + 1..]);
    let is_format = !format.is_empty() && format.iter().all(u8::is_ascii_alphanumeric);
    (is_format && !name.ends_with(b"/")).then(|| name.to_vec())
}

fn before(text: &[u8], is_end: impl Fn(u8) -> bool) -> &[u8] {
    text.split(|byte| is_end(*byte)).next().unwrap_or_default()
}

/// One round of decoding; `None` if there is nothing to decode. What is no escape stays.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some((byte, behind)) = rest.split_first() {
        let escape = match behind {
            [high, low, ..] if *byte == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &behind[2..];
                changed = true;
            }
            None => {
                decoded.push(*byte);
                rest = behind;
            }
        }
    }
    changed.then_some(decoded)
}

/// Upper case first: some letters have one lower case only by way of it (`ſ`).
fn case_folded(mut path: Vec<u8>) -> Vec<u8> {
    path.make_ascii_lowercase();
    match std::str::from_utf8(&path) {
        Ok(text) if !text.is_ascii() => text.to_uppercase().to_lowercase().into_bytes(),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exact(path: &str) -> PathPattern {
        PathPattern::Exact(path.into())
    }

    fn prefix(path: &str) -> PathPattern {
        PathPattern::Prefix(path.into())
    }

    fn shown(path: &str) -> Vec<String> {
        readings(path.as_bytes()).unwrap().into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn the_longest_match_wins_and_exact_before_prefix() {
        let router = Router::new([
            (prefix("/"), Guard::Ends, "all"),
            (prefix("/a/"), Guard::Ends, "inner"),
            (exact("/a/b"), Guard::Ends, "exact"),
            (PathPattern::Tree("/verify".into()), Guard::Ends, "tree"),
        ]);
        for (path, route) in [
            ("/", "all"),
            ("/a", "all"),
            ("/a/", "inner"),
            ("/a/b", "exact"),
            ("/a/b/", "inner"),
            ("/A/b", "all"),
            ("/verify", "tree"),
            ("/verify/any/path", "tree"),
            ("/verifyx", "all"),
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Route(&route), "{path}");
        }
        assert_eq!(Router::new([(exact("/a"), Guard::Ends, ())]).find(b"/b"), Found::Nowhere);
    }

    #[test]
    fn the_readings_of_a_path_are_what_apps_with_any_liberties_make_of_it() {
        for (path, expected) in [
            ("/webhooks", "/webhooks"),
            ("/", "/"),
            ("//webhooks", "/webhooks"),
            ("/webhooks/", "/webhooks"),
            ("/webhooks//", "/webhooks"),
            ("/%77ebhooks", "/webhooks"),
            ("/%2577ebhooks", "/webhooks"),
            ("/%25%37%37ebhooks", "/webhooks"),
            ("/x/../webhooks", "/webhooks"),
            ("/x/%2e%2e/webhooks", "/webhooks"),
            ("/x%2f..%2fwebhooks", "/webhooks"),
            ("/./webhooks/.", "/webhooks"),
            ("/../../webhooks", "/webhooks"),
            ("\\webhooks", "/webhooks"),
            ("/x\\..\\webhooks", "/webhooks"),
            ("/x%5c..%5cwebhooks", "/webhooks"),
            ("/webhooks;a=b", "/webhooks"),
            ("/webhooks%3ba=b", "/webhooks"),
            ("/;x/webhooks", "/webhooks"),
            ("/x/..;/webhooks", "/webhooks"),
            ("/WebHooks", "/webhooks"),
            ("/webhook\u{17f}", "/webhooks"),
            ("/webhooks%3fx", "/webhooks"),
            ("/webhooks%23x", "/webhooks"),
            ("/web%hooks%", "/web%hooks%"),
            ("/a/b;p/c", "/a/b/c"),
            ("/webhooks;\\..", "/webhooks"),
            ("/webhooks;\\..", "/"),
            ("/webhooks;%2f..", "/webhooks"),
            ("/%77ebhooks;%2f..", "/webhooks"),
            ("/webhooks//..", "/webhooks"),
            ("/webhooks//..", "/"),
            ("/;/webhooks/;9//;9\\3", "/webhooks"),
        ] {
            let shown = shown(path);
            assert!(shown.iter().any(|reading| reading == expected), "{path}: {shown:?}");
        }
        assert_eq!(shown("/a/plain/path"), ["/a/plain/path"]);
        assert_eq!(readings("/%2525;a\\b//c/./d%3f#".repeat(9).as_bytes()), None, "too many");
    }

    #[test]
    fn what_an_app_could_take_for_a_verified_path_is_not_passed() {
        let router = Router::new([
            (prefix("/"), Guard::Open, "pass"),
            (exact("/webhooks"), Guard::Ends, "exact"),
            (prefix("/hooks/"), Guard::Ends, "below"),
            (prefix("/public/"), Guard::Open, "public"),
        ]);
        for path in [
            "//webhooks",
            "/webhooks/",
            "/Webhooks",
            "/%77ebhooks",
            "/x/../webhooks",
            "/webhooks;a",
            "/public/../webhooks",
            "/public/%2e%2e/hooks/a",
            "/hooks",
            "//hooks//a",
            "/HOOKS/a",
            "/%25252525252525252577ebhooks",
            "/webhooks;%2f..",
            "/webhooks//..",
            "/;/webhooks/;9\\3",
            "/webhooks.json",
            "/Webhooks%2Exml",
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Confusable, "{path}");
        }
        for (path, route) in [
            ("/webhooks", "exact"),
            ("/hooks/", "below"),
            ("/webhooks2", "pass"),
            ("/webhooks/below", "pass"),
            ("/hooksx", "pass"),
            ("/public/a", "public"),
            ("/public/webhooksx", "public"),
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Route(&route), "{path}");
        }
    }

    #[test]
    fn what_is_no_plain_text_is_not_passed() {
        let router = Router::new([(prefix("/"), Guard::Open, "pass"), (exact("/webhooks"), Guard::Ends, "exact")]);
        for path in [
            "/webhooks%00",
            "/webhooks%0a",
            "/webhooks%09",
            "/webhooks%7f",
            "/webhooks%C2%85",
            "/webhooks%ff",
            "/%c0%af",
            "/webhooks%2500",
            "/webhooks%25ff",
            "/a%00/b",
            "/caf%E9",
            "/webhooks%20",
            "/webhooks%C2%A0",
            "/webhooks.",
            "/webhooks%20/",
            "/webhooks%2e%2e%2f.",
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Confusable, "{path}");
        }
        for path in ["/caf%C3%A9", "/a%20b", "/a.b", "/%F0%9F%93%9E", "/webhooks%20x"] {
            assert_eq!(router.find(path.as_bytes()), Found::Route(&"pass"), "{path}");
        }
    }

    #[test]
    fn what_ends_in_a_verified_path_is_not_passed_unless_that_route_or_the_configuration_says_so() {
        let router = |guard| {
            Router::new([
                (prefix("/"), Guard::Open, "pass"),
                (prefix("/hooks/"), guard, "below"),
                (exact("/webhooks/telnyx"), guard, "exact"),
                (exact("/docs/hooks/a"), Guard::Open, "named"),
            ])
        };
        for path in [
            "/index.php/webhooks/telnyx",
            "/app/v1/webhooks/telnyx",
            "/app/WebHooks%2ftelnyx/",
            "/app//webhooks;a/telnyx",
            "/index.php/hooks/a/b",
            "/index.php/hooks",
        ] {
            assert_eq!(router(Guard::Ends).find(path.as_bytes()), Found::Confusable, "{path}");
            assert_eq!(router(Guard::Path).find(path.as_bytes()), Found::Route(&"pass"), "{path}");
        }
        for (path, route) in [
            ("/mywebhooks/telnyx", "pass"),
            ("/telnyx", "pass"),
            ("/webhooks/telnyx/settings", "pass"),
            ("/a/webhooks/telnyxx", "pass"),
            ("/docs/hooks/a", "named"),
        ] {
            assert_eq!(router(Guard::Ends).find(path.as_bytes()), Found::Route(&route), "{path}");
        }
        let segments = |count: usize| "/a".repeat(count);
        assert_eq!(router(Guard::Ends).find(segments(65).as_bytes()), Found::Route(&"pass"));
        assert_eq!(router(Guard::Ends).find(segments(66).as_bytes()), Found::Confusable, "too many to look at");
        assert_eq!(router(Guard::Path).find(segments(66).as_bytes()), Found::Route(&"pass"));
    }

    #[test]
    fn a_path_that_is_not_passed_names_the_route_that_it_may_be_taken_for() {
        let router = Router::new([
            (prefix("/"), Guard::Open, "pass"),
            (exact("/webhooks"), Guard::Ends, "exact"),
            (prefix("/hooks/"), Guard::Path, "below"),
        ]);
        for (path, route) in [
            ("//webhooks", Some("exact")),
            ("/index.php/WEBHOOKS", Some("exact")),
            ("/x/../hooks/a", Some("below")),
            ("/a%00b", None),
            ("/a%ffb", None),
            ("/%2525;a%5cb//c/./d%3f#".repeat(9).as_str(), None),
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Confusable, "{path}");
            assert_eq!(router.confused_with(path.as_bytes()).copied(), route, "{path}");
        }
    }

    #[test]
    fn a_path_that_nearly_is_a_routes_is_told() {
        let router = Router::new([
            (exact("/webhooks"), Guard::Ends, "exact"),
            (prefix("/hooks/"), Guard::Ends, "below"),
            (exact("/api/telnyx/voice"), Guard::Ends, "deep"),
        ]);
        for (path, near) in [
            ("/webhooks/", Some((&"exact", Miss::Spelling))),
            ("/WebHooks", Some((&"exact", Miss::Spelling))),
            ("//webhooks", Some((&"exact", Miss::Spelling))),
            ("/%77ebhooks", Some((&"exact", Miss::Spelling))),
            ("/hooks", Some((&"below", Miss::Spelling))),
            ("/api/webhooks", Some((&"exact", Miss::Before))),
            ("/telnyx/voice", Some((&"deep", Miss::Before))),
            ("/", None),
            ("/favicon.ico", None),
        ] {
            assert_eq!(router.near_miss(path.as_bytes()), near, "{path}");
        }
    }

    #[test]
    fn a_pass_route_within_a_verifying_one_passes_itself_and_nothing_else() {
        let router = Router::new([(prefix("/"), Guard::Ends, "all"), (prefix("/public/"), Guard::Open, "public")]);
        assert_eq!(router.find(b"/public/a"), Found::Route(&"public"));
        assert_eq!(router.find(b"/public/../a"), Found::Confusable);
        assert_eq!(router.find(b"/Public/a"), Found::Route(&"all"));
    }

    #[test]
    fn of_two_patterns_with_one_canonical_form_the_verifying_one_counts() {
        let router = Router::new([(exact("/Hooks"), Guard::Open, "pass"), (exact("/hooks"), Guard::Ends, "verified")]);
        assert_eq!(router.find(b"/Hooks"), Found::Confusable);
    }

    proptest! {
        #[test]
        fn what_liberties_in_any_order_make_a_verified_path_of_never_passes(
            path in "/(/|[wW]ebhooks|[x;]|\\.\\.?/|%77ebhooks|%2[ef]|%3[bf]|%5c|%25|\\\\){0,12}",
            order in prop::collection::vec(0..LIBERTIES.len(), 0..12),
        ) {
            let router = Router::new([(prefix("/"), Guard::Open, false), (exact("/webhooks"), Guard::Ends, true)]);
            let mut read = path.clone().into_bytes();
            for liberty in order {
                read = LIBERTIES[liberty](&read).unwrap_or(read);
            }
            let is_found = router.find(path.as_bytes());
            prop_assert!(!folded(&read).ends_with(b"/webhooks") || is_found != Found::Route(&false), "{}", path);
        }
    }
}
