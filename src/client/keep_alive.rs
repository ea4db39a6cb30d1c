//! How long an app keeps an idle connection, where it says so (`Keep-Alive: timeout=`, RFC 2068 §19.7.1.1).

use std::time::Duration;

use http::HeaderValue;

/// How much earlier than the app hookward gives a connection up, at most; of a short time, half.
const MARGIN_MAX: Duration = Duration::from_secs(1);
/// Longest idle time that an app's word leads to: it says nothing of what stands between.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long a connection is kept idle whose app says this; `None` if it says nothing of use.
pub(super) fn idle_time(keep_alive: &HeaderValue) -> Option<Duration> {
    let parameters = keep_alive.to_str().ok()?.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    let app_keeps = Duration::from_secs(seconds.trim().parse().ok()?);
    Some((app_keeps - MARGIN_MAX.min(app_keeps / 2)).min(IDLE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_left_alone_a_second_before_it_closes_or_at_half_of_a_short_time() {
        let idle_ms = |text| idle_time(&HeaderValue::from_static(text)).map(|idle| idle.as_millis());
        for (said, expected) in [
            ("timeout=5", Some(4_000)),
            ("timeout=5, max=100", Some(4_000)),
            ("max=100, Timeout = 2 ", Some(1_000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=72", Some(10_000)),
            ("timeout=18446744073709551615", Some(10_000)),
            ("timeout=99999999999999999999", None),
            ("timeout=-1", None),
            ("timeout=", None),
            ("max=5", None),
            ("", None),
        ] {
            assert_eq!(idle_ms(said), expected, "{said}");
        }
    }
}
