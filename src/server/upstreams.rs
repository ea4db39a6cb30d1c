//! The apps behind the routes: one [`Upstream`] for equal settings, kept over reloads.

use std::sync::Arc;

use crate::config::{self, Config};
use crate::forward::client::ClientError;
use crate::forward::upstream::{Upstream, UpstreamSettings};
use crate::http::admin::UpstreamView;

/// Apps by their settings; routes with equal settings share connections and bounds.
#[derive(Default, Clone)]
pub(super) struct Upstreams(Vec<(Arc<config::Upstream>, Arc<Upstream>)>);

impl Upstreams {
    /// The apps that a configuration names. Those that `earlier` knows go on, with their
    /// connections and what they have learnt.
    pub(super) fn of(config: &Config, earlier: &Upstreams) -> Result<Upstreams, ClientError> {
        let named = config.routes.iter().filter_map(config::Route::upstream);
        let mut known = Upstreams::default();
        for settings in named.chain(&config.default_upstream).chain(&config.unmatched) {
            if known.find(settings).is_none() {
                let upstream = match earlier.find(settings) {
                    Some(upstream) => upstream,
                    None => Arc::new(connect(settings)?),
                };
                known.0.push((settings.clone(), upstream));
            }
        }
        Ok(known)
    }

    /// The app with these settings.
    pub(super) fn find(&self, settings: &config::Upstream) -> Option<Arc<Upstream>> {
        self.0.iter().find(|(known, _)| **known == *settings).map(|(_, upstream)| upstream.clone())
    }

    /// As the status shows them.
    pub(super) fn views(&self, config: &Config) -> Vec<UpstreamView> {
        let goes_there = |settings: &config::Upstream, route: &&config::Route| {
            route.upstream().is_some_and(|upstream| **upstream == *settings)
        };
        let view = |(settings, _): &(Arc<config::Upstream>, Arc<Upstream>)| UpstreamView {
            routes: config
                .routes
                .iter()
                .filter(|route| goes_there(settings, route))
                .map(|r| r.name.to_string())
                .collect(),
            concurrency: settings.max_concurrency,
        };
        self.0.iter().map(view).collect()
    }
}

fn connect(settings: &config::Upstream) -> Result<Upstream, ClientError> {
    Upstream::new(UpstreamSettings {
        destination: settings.destination.clone(),
        host: settings.host.clone(),
        signer: settings.signer.clone(),
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        max_concurrency: settings.max_concurrency,
    })
}
