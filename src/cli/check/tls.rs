//! TLS with the apps of a configuration, tried once.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::client::{Client, ExchangeError, Timeouts};
use crate::config::{Config, Upstream};

/// Shakes hands with each app that speaks TLS, all at once and within its `connect_timeout`. One that cannot be reached
/// from here is none of this: configurations are checked elsewhere too.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
    for upstream in config.upstreams().filter(|upstream| upstream.destination.is_tls()) {
        if !upstreams.contains(upstream) {
            upstreams.push(upstream.clone());
        }
    }
    if upstreams.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("upstream: TLS was not looked at: {error}")],
    };
    let mut warnings = runtime.block_on(async {
        let looks: JoinSet<_> = upstreams.into_iter().map(|upstream| async move { look(&upstream).await }).collect();
        looks.join_all().await.into_iter().flatten().collect::<Vec<_>>()
    });
    // A look-up that hangs has a thread of its own, which is not worth waiting for.
    runtime.shutdown_background();
    warnings.sort();
    warnings
}

async fn look(upstream: &Upstream) -> Option<String> {
    let Upstream { destination, connect_timeout, timeout, .. } = upstream;
    let timeouts = Timeouts { connect: *connect_timeout, total: *timeout, idle: *timeout };
    match Client::new(destination.clone(), timeouts) {
        Err(error) => Some(format!("upstream: {destination}: {error}")),
        Ok(client) => match client.shake_hands().await {
            Err(ExchangeError::Tls(failure)) => Some(format!("upstream: {destination}: {failure}")),
            _ => None,
        },
    }
}
