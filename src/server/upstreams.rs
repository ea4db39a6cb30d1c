//! The apps behind the routes: one [`Upstream`] for equal settings, kept over reloads.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::client::ClientError;
use crate::config::{self, Config};
use crate::forward::upstream::{Base, Upstream, UpstreamSettings};
use crate::http::admin::UpstreamView;

/// Looks at the TLS of an app that cannot be reached yet, at most; a minute of them.
const LOOKS_MAX: u32 = 30;
/// Between two of them.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Apps by their settings; routes with equal settings share connections and bounds.
#[derive(Default, Clone)]
pub(super) struct Upstreams(Vec<(Arc<config::Upstream>, Arc<Upstream>)>);

impl Upstreams {
    /// The apps that a configuration names. Those that `earlier` knows go on, with their
    /// connections and what they have learnt.
    pub(super) fn of(config: &Config, earlier: &Upstreams) -> Result<Upstreams, ClientError> {
        let mut known = Upstreams::default();
        let named: Vec<_> = config.upstreams().collect();
        for settings in &named {
            if known.find(settings).is_none() {
                // One whose limits have changed is still the app that it was.
                let changed = || {
                    earlier
                        .0
                        .iter()
                        .find(|(was, app)| was.is_same_app(settings) && !named.contains(&was) && !known.has(app))
                };
                let upstream = match earlier.find(settings).or_else(|| Some(changed()?.1.clone())) {
                    Some(upstream) => upstream,
                    None => Arc::new(earlier.with_operators_limits(connect(settings)?, settings)),
                };
                known.0.push(((*settings).clone(), upstream));
            }
        }
        Ok(known)
    }

    /// Lets each app have what its settings say, from now on.
    pub(super) fn put_limits_in_force(&self) {
        self.0.iter().for_each(|(settings, upstream)| upstream.configure(settings.limits));
    }

    /// A new app at the place of an earlier one, with the limits that an operator has set for that one: the reload
    /// changes something else.
    fn with_operators_limits(&self, app: Upstream, settings: &config::Upstream) -> Upstream {
        let is_there =
            |was: &config::Upstream| was.destination == settings.destination && was.limits == settings.limits;
        let set = self.0.iter().filter(|(was, _)| is_there(was)).find_map(|(_, earlier)| earlier.operators_limits());
        if let Some(limits) = set {
            app.set_limits(Base::Configured, |_| limits);
        }
        app
    }

    fn has(&self, upstream: &Arc<Upstream>) -> bool {
        self.0.iter().any(|(_, known)| Arc::ptr_eq(known, upstream))
    }

    /// The app with these settings.
    pub(super) fn find(&self, settings: &config::Upstream) -> Option<Arc<Upstream>> {
        self.0.iter().find(|(known, _)| **known == *settings).map(|(_, upstream)| upstream.clone())
    }

    /// Tries TLS with the apps that `earlier` does not know, in tasks of their own. An app that begins after its sidecar
    /// is waited for, within a bound.
    pub(super) fn look_at_tls(&self, earlier: &Upstreams) {
        let is_new = |upstream: &Arc<Upstream>| !earlier.0.iter().any(|(_, known)| Arc::ptr_eq(known, upstream));
        for upstream in self.0.iter().map(|(_, upstream)| upstream).filter(|upstream| is_new(upstream)) {
            tokio::spawn(until_seen(Arc::downgrade(upstream)));
        }
    }

    /// As the status shows them.
    pub(super) fn views(&self, config: &Config) -> Vec<UpstreamView> {
        let goes_there = |settings: &config::Upstream, route: &&config::Route| {
            route.upstream().is_some_and(|upstream| **upstream == *settings)
        };
        let view = |(settings, upstream): &(Arc<config::Upstream>, Arc<Upstream>)| UpstreamView {
            routes: config
                .routes
                .iter()
                .filter(|route| goes_there(settings, route))
                .map(|r| (r.name.clone(), r.ack().is_some()))
                .collect(),
            upstream: upstream.clone(),
        };
        self.0.iter().map(view).collect()
    }
}

async fn until_seen(upstream: Weak<Upstream>) {
    for _ in 0..LOOKS_MAX {
        let Some(upstream) = upstream.upgrade() else { return };
        if upstream.look_at_tls().await {
            return;
        }
        drop(upstream);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn connect(settings: &config::Upstream) -> Result<Upstream, ClientError> {
    Upstream::new(UpstreamSettings {
        destination: settings.destination.clone(),
        host: settings.host.clone(),
        forwarded: settings.forwarded,
        signer: settings.signer.clone(),
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        lifetime: settings.connection_lifetime,
        limits: settings.limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamLimits;
    use crate::config::resolve::{Overrides, SourceFile, resolve};

    fn upstreams(text: &str, earlier: &Upstreams) -> (Upstreams, Vec<Arc<Upstream>>) {
        let key = "jrMBoswHlhhVx2W2Www72WU/xn4UMpjreslD0m2u0qs=";
        let flags = Overrides { public_key: vec![key.into()], ..Overrides::default() };
        let file = SourceFile { name: "h.yaml".into(), text: text.into() };
        let config = resolve(Some(&file), &flags, &|_| None).unwrap().config;
        let upstreams = Upstreams::of(&config, earlier).unwrap();
        let of = |route: &config::Route| upstreams.find(route.upstream().unwrap()).unwrap();
        let of_routes = config.routes.iter().map(of).collect();
        (upstreams, of_routes)
    }

    #[test]
    fn equal_settings_share_an_app_that_outlives_reloads_and_others_start_anew() {
        let routes = "routes: [{ name: a, path: /a }, { name: b, path: /b }]";
        let at = |timeout| format!("upstream: {{ url: \"http://127.0.0.1:1\", timeout: {timeout} }}\n{routes}");
        let (first, before) = upstreams(&at("5s"), &Upstreams::default());
        assert!(Arc::ptr_eq(&before[0], &before[1]));
        let (second, same) = upstreams(&format!("{}\nlimits: {{ header_bytes: 16KiB }}", at("5s")), &first);
        assert!(Arc::ptr_eq(&before[0], &same[0]), "with its breaker, its window and its connections");
        let (_, changed) = upstreams(&at("6s"), &second);
        assert!(!Arc::ptr_eq(&before[0], &changed[0]));
    }

    #[test]
    fn limits_that_an_operator_has_set_outlive_a_reload_that_changes_something_else() {
        let at = |more: &str| format!("upstream: {{ url: \"http://127.0.0.1:1\", {more} }}");
        let (first, before) = upstreams(&at("timeout: 5s, max_concurrency: 8"), &Upstreams::default());
        before[0].set_limits(Base::InForce, |limits| UpstreamLimits { max_concurrency: 2, ..limits });
        let (second, after) = upstreams(&at("timeout: 6s, max_concurrency: 8"), &first);
        assert_eq!((Arc::ptr_eq(&before[0], &after[0]), after[0].max_concurrency()), (false, 2));
        let (_, changed) = upstreams(&at("timeout: 7s, max_concurrency: 9"), &second);
        assert_eq!(changed[0].max_concurrency(), 9);
    }

    #[test]
    fn an_app_whose_limits_change_is_the_same_app() {
        let routes = "routes: [{ name: a, path: /a }, { name: b, path: /b, upstream: { max_concurrency: 3 } }]";
        let at = |limits| format!("upstream: {{ url: \"http://127.0.0.1:1\", {limits} }}\n{routes}");
        let (first, before) = upstreams(&at("max_concurrency: 8"), &Upstreams::default());
        let (second, after) = upstreams(&at("max_concurrency: 9, rate: 600/min"), &first);
        assert!(Arc::ptr_eq(&before[0], &after[0]), "of a, with its breaker, its window and its connections");
        assert!(Arc::ptr_eq(&before[1], &after[1]), "and that of b");
        assert_eq!(after[0].max_concurrency(), 8, "until the whole configuration is in force");
        second.put_limits_in_force();
        assert_eq!(after[0].max_concurrency(), 9);
    }
}
