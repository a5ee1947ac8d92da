//! What a manifest says of an app's routes: which, how their requests are spread, and what the app speaks.

use super::parse::scalar;
use super::read::Map;
use super::{MAX_ROUTES, NamedRoute, Routes};
use crate::routing::{OptionsChange, Protocol, RouteOptions};
use serde_yaml::Value;

/// Options of a route, checked by themselves: what a route has already is not known here.
fn options(entry: &Map<'_>) -> OptionsChange {
    let Some(value) = entry.get("options") else {
        return OptionsChange::new();
    };
    let place = entry.at("options");
    let Some(map) = Map::of(value, place.clone(), entry.report) else {
        return OptionsChange::new();
    };
    let one = |(name, value): (&Value, &Value)| Some((name.as_str()?.to_owned(), scalar(value)));
    let change: OptionsChange = map.map.iter().filter_map(one).collect();
    if let Err(problem) = RouteOptions::default().changed(&change) {
        entry.report.add(&place, format!("make no sense: {problem}"), None);
    }
    change
}

/// Which routes an app is to have.
pub(super) fn routes(map: &Map<'_>) -> Routes {
    let mut routes = Routes {
        none: map.truth("no-route"),
        random: map.truth("random-route"),
        default: map.truth("default-route"),
        named: Vec::new(),
    };
    for (place, value) in map.list("routes", MAX_ROUTES).unwrap_or_default() {
        let Some(entry) = Map::of(value, place, map.report) else {
            continue;
        };
        entry.only(&["route", "protocol", "options"]);
        let options = options(&entry);
        let protocol = entry.text("protocol").map(|name| (name, Protocol::by_name(name)));
        if let Some((_, None)) = protocol {
            let hint = "write http1 or http2".to_owned();
            entry.report.add(&entry.at("protocol"), "is not supported", Some(hint));
        }
        match entry.text("route") {
            Some(route) if route.contains("://") || route.is_empty() || route.contains(char::is_whitespace) => {
                let hint = "write host.domain/path without scheme, for example shop.example.com".to_owned();
                entry.report.add(&entry.at("route"), "is not a route", Some(hint));
            }
            Some(route) => routes.named.push(NamedRoute {
                address: route.to_owned(),
                protocol: protocol.and_then(|(_, known)| known),
                options,
            }),
            None if !entry.has("route") => entry.report.add(&entry.at("route"), "is missing", None),
            None => {}
        }
    }
    if routes.none && (routes.random || routes.default || !routes.named.is_empty()) {
        let message = "can't be used together with routes, random-route or default-route";
        // Clients add `default-route` by themselves.
        if routes.random || !routes.named.is_empty() {
            map.report.add(&map.at("no-route"), message, None);
        }
    }
    routes
}
