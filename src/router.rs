//! Which route a path belongs to, and the guard against paths that an app would read as another.
//! Pure.
//!
//! Routes match the path as it was sent, byte for byte. What an app makes of a path may differ:
//! `//webhooks`, `/%77ebhooks` and `/x/../webhooks` reach the handler of `/webhooks` in one
//! framework or another. So a request that is about to be passed on unverified is also routed by
//! its canonical path, and if that one belongs to a verifying route, it is passed nowhere.

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

    /// Exact before the others, long before short.
    fn rank(&self) -> (bool, usize) {
        (matches!(self, PathPattern::Exact(_)), self.path().len())
    }

    /// The pattern of the canonical paths of what this one takes.
    fn canonical(&self) -> PathPattern {
        let text = |path: &str| String::from_utf8_lossy(&canonical(path.as_bytes()).unwrap_or_default()).into_owned();
        match self {
            PathPattern::Exact(path) => PathPattern::Exact(text(path)),
            PathPattern::Tree(path) => PathPattern::Tree(text(path)),
            PathPattern::Prefix(path) if path.ends_with('/') => PathPattern::Tree(text(path)),
            PathPattern::Prefix(path) => PathPattern::Prefix(text(path)),
        }
    }
}

/// A route by its path.
#[derive(Debug)]
struct Entry {
    pattern: PathPattern,
    /// Whether its requests are verified before anything is passed on.
    verifies: bool,
    /// Its place among the targets.
    target: usize,
}

/// Routes by path.
#[derive(Debug)]
pub struct Router<T> {
    targets: Vec<T>,
    /// Tried in this order against the path as sent.
    as_sent: Vec<Entry>,
    /// Tried in this order against the canonical path; empty where nothing is passed unverified.
    canonical: Vec<Entry>,
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
    /// Routes with their pattern and whether they verify; no two of one pattern.
    pub fn new(routes: impl IntoIterator<Item = (PathPattern, bool, T)>) -> Router<T> {
        let mut targets = Vec::new();
        let mut as_sent = Vec::new();
        for (pattern, verifies, target) in routes {
            as_sent.push(Entry { pattern, verifies, target: targets.len() });
            targets.push(target);
        }
        let mut canonical = Vec::new();
        if as_sent.iter().any(|entry| !entry.verifies) {
            canonical.extend(as_sent.iter().map(|entry| Entry { pattern: entry.pattern.canonical(), ..*entry }));
        }
        as_sent.sort_by_key(|entry| std::cmp::Reverse(entry.pattern.rank()));
        // Of two that become one, the one that verifies stands first.
        canonical.sort_by_key(|entry| std::cmp::Reverse((entry.pattern.rank(), entry.verifies)));
        Router { targets, as_sent, canonical }
    }

    /// Where a path leads, without its query.
    pub fn find(&self, path: &[u8]) -> Found<&T> {
        let Some(entry) = self.as_sent.iter().find(|entry| entry.pattern.matches(path)) else {
            return Found::Nowhere;
        };
        if !entry.verifies && self.is_confusable(path) {
            return Found::Confusable;
        }
        Found::Route(&self.targets[entry.target])
    }

    fn is_confusable(&self, path: &[u8]) -> bool {
        let Some(path) = canonical(path) else { return true };
        self.canonical.iter().find(|entry| entry.pattern.matches(&path)).is_some_and(|entry| entry.verifies)
    }

    /// Every route.
    pub fn targets(&self) -> &[T] {
        &self.targets
    }
}

/// Most rounds of percent-decoding: each takes time in the length of the path, and nobody honest
/// encodes even twice.
const DECODE_ROUNDS_MAX: usize = 8;

/// What the most lenient app could make of a path: percent-decoded until it stays the same, cut at
/// an encoded `?` or `#`, `\` as `/`, `;` parameters cut, slashes merged, dot segments resolved,
/// case folded, no slash at the end. `None` if it is still encoded after [`DECODE_ROUNDS_MAX`].
fn canonical(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = path.to_vec();
    let mut rounds = 0;
    while let Some(next) = percent_decoded(&decoded) {
        rounds += 1;
        if rounds > DECODE_ROUNDS_MAX {
            return None;
        }
        decoded = next;
    }
    let end = decoded.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(decoded.len());
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded[..end].split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut resolved = vec![b'/'];
    resolved.extend(segments.join(&b'/'));
    Some(case_folded(resolved))
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

    fn shown(path: &str) -> String {
        String::from_utf8(canonical(path.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_longest_match_wins_and_exact_before_prefix() {
        let router = Router::new([
            (prefix("/"), true, "all"),
            (prefix("/a/"), true, "inner"),
            (exact("/a/b"), true, "exact"),
            (PathPattern::Tree("/verify".into()), true, "tree"),
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
        assert_eq!(Router::new([(exact("/a"), true, ())]).find(b"/b"), Found::Nowhere);
    }

    #[test]
    fn a_canonical_path_is_what_the_most_lenient_app_makes_of_it() {
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
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn what_an_app_could_take_for_a_verified_path_is_not_passed() {
        let router = Router::new([
            (prefix("/"), false, "pass"),
            (exact("/webhooks"), true, "exact"),
            (prefix("/hooks/"), true, "below"),
            (prefix("/public/"), false, "public"),
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
            ("/public/webhooks", "public"),
        ] {
            assert_eq!(router.find(path.as_bytes()), Found::Route(&route), "{path}");
        }
    }

    #[test]
    fn a_pass_route_within_a_verifying_one_passes_itself_and_nothing_else() {
        let router = Router::new([(prefix("/"), true, "all"), (prefix("/public/"), false, "public")]);
        assert_eq!(router.find(b"/public/a"), Found::Route(&"public"));
        assert_eq!(router.find(b"/public/../a"), Found::Confusable);
        assert_eq!(router.find(b"/Public/a"), Found::Route(&"all"));
    }

    #[test]
    fn of_two_patterns_with_one_canonical_form_the_verifying_one_counts() {
        let router = Router::new([(exact("/Hooks"), false, "pass"), (exact("/hooks"), true, "verified")]);
        assert_eq!(router.find(b"/Hooks"), Found::Confusable);
    }

    proptest! {
        #[test]
        fn a_canonical_path_stays_the_same(path in "(/|[a-zA-Z.;%]|%2[ef]|%5c|\\\\){0,40}") {
            if let Some(once) = canonical(path.as_bytes()) {
                prop_assert_eq!(canonical(&once), Some(once.clone()), "{}", path);
            }
        }

        #[test]
        fn whatever_has_the_canonical_path_of_a_verified_one_never_passes(
            path in "(/|[wWebhoksx.;]|%77|%2[ef]|%5c|\\\\){0,30}"
        ) {
            let router = Router::new([(prefix("/"), false, false), (exact("/webhooks"), true, true)]);
            let passes = router.find(path.as_bytes()) == Found::Route(&false);
            let same = canonical(path.as_bytes()).is_none_or(|path| path == b"/webhooks");
            prop_assert!(!(passes && same), "{}", path);
        }
    }
}
