//! Families with a series for each route: the series of what is configured no longer are removed.

use std::collections::HashMap;

use prometheus::core::{Collector as _, MetricVec, MetricVecBuilder};
use prometheus::proto::LabelPair;

use super::{NO_ROUTE, RouteLabels};

/// A family whose series carry a route's name.
pub(super) trait ByRoute: Send + Sync {
    /// Removes the series of other routes than these, and of other keys than theirs.
    fn retain(&self, routes: &[RouteLabels]);
}

impl<T: MetricVecBuilder + 'static> ByRoute for MetricVec<T> {
    fn retain(&self, routes: &[RouteLabels]) {
        for family in self.collect() {
            let gone = family.get_metric().iter().map(prometheus::proto::Metric::get_label).filter(|labels| {
                let (route, key) = (value(labels, "route"), value(labels, "key"));
                !is_configured(route, key, routes)
            });
            for labels in gone {
                let labels: HashMap<&str, &str> = labels.iter().map(|label| (label.name(), label.value())).collect();
                // Gone already is as good.
                let _ = self.remove(&labels);
            }
        }
    }
}

fn value<'l>(labels: &'l [LabelPair], name: &str) -> &'l str {
    labels.iter().find(|label| label.name() == name).map_or(NO_ROUTE, LabelPair::value)
}

fn is_configured(route: &str, key: &str, routes: &[RouteLabels]) -> bool {
    let has_key = |route: &RouteLabels| key == NO_ROUTE || route.keys.iter().any(|name| **name == *key);
    route == NO_ROUTE || routes.iter().any(|configured| *configured.name == *route && has_key(configured))
}
