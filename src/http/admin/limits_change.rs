//! An operator's request to give an app more or less.

use std::num::NonZeroU32;

use serde::Deserialize;

use super::reply::Reply;
use crate::forward::rate::{BURST_MAX, Bound, Rate};
use crate::forward::scheduler::{CONCURRENCY, Limits};
use crate::forward::upstream::Base;

/// The body of such a call; what it leaves out stays as it is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsBody {
    configured: bool,
    max_concurrency: Option<usize>,
    rate: Option<String>,
    rate_burst: Option<NonZeroU32>,
}

/// A change of an app's limits.
pub(super) struct LimitsChange {
    pub(super) base: Base,
    max_concurrency: Option<usize>,
    /// The inner `None` is no bound.
    rate: Option<Option<Bound>>,
}

impl LimitsBody {
    /// What it says, within the bounds of the configuration.
    pub(super) fn change(self) -> Result<LimitsChange, Reply> {
        let LimitsBody { configured, max_concurrency, rate, rate_burst } = self;
        let wrong = |problem: String| Err(Reply::error(422, &problem));
        if max_concurrency.is_some_and(|number| !CONCURRENCY.contains(&number)) {
            return wrong(format!("max_concurrency: expected {} to {}", CONCURRENCY.start(), CONCURRENCY.end()));
        }
        let rate = match (rate.as_deref(), rate_burst) {
            (_, Some(burst)) if burst.get() > BURST_MAX => {
                return wrong(format!("rate_burst: expected 1 to {BURST_MAX}"));
            }
            (None | Some("off"), Some(_)) => return wrong("rate_burst: expected with a rate".to_owned()),
            (None, None) => None,
            (Some("off"), None) => Some(None),
            (Some(text), burst) => match Rate::parse(text) {
                Some(rate) => Some(Some(Bound { rate, burst: burst.unwrap_or(rate.of_a_second()) })),
                None => return wrong(format!("rate: expected {}, or off", Rate::expected())),
            },
        };
        let base = if configured { Base::Configured } else { Base::InForce };
        Ok(LimitsChange { base, max_concurrency, rate })
    }
}

impl LimitsChange {
    /// These limits after it.
    pub(super) fn of(&self, limits: Limits) -> Limits {
        Limits {
            max_concurrency: self.max_concurrency.unwrap_or(limits.max_concurrency),
            rate: self.rate.unwrap_or(limits.rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> LimitsBody {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_left_out_stays_and_a_new_rate_brings_its_burst() {
        let rate =
            |text, burst| Some(Bound { rate: Rate::parse(text).unwrap(), burst: NonZeroU32::new(burst).unwrap() });
        let now = Limits { max_concurrency: 32, rate: rate("5/s", 7) };
        for (json, limits) in [
            ("{}", now),
            (r#"{"max_concurrency":8}"#, Limits { max_concurrency: 8, ..now }),
            (r#"{"rate":"off"}"#, Limits { rate: None, ..now }),
            (r#"{"rate":"600/min"}"#, Limits { rate: rate("600/min", 10), ..now }),
            (r#"{"rate":"5/s","rate_burst":50}"#, Limits { rate: rate("5/s", 50), ..now }),
        ] {
            let Ok(change) = body(json).change() else { panic!("{json}") };
            assert_eq!(change.of(now), limits, "{json}");
        }
        for json in [
            r#"{"max_concurrency":0}"#,
            r#"{"max_concurrency":10001}"#,
            r#"{"rate":"0/s"}"#,
            r#"{"rate_burst":5}"#,
            r#"{"rate":"off","rate_burst":5}"#,
            r#"{"rate":"5/s","rate_burst":1000001}"#,
        ] {
            assert!(body(json).change().is_err(), "{json}");
        }
    }
}
