//! The public API, one module a resource: parse, ask whether the caller may, call the action, present.

mod app_parts;
mod apps;
mod bits;
mod buildpacks;
mod builds;
mod catalog;
mod deployments;
mod domains;
mod droplet_bits;
mod droplets;
mod events;
mod feature_flags;
mod include;
mod isolation;
mod jobs;
mod links;
mod logcache;
mod manifest_diff;
mod manifests;
mod metadata;
mod orgs;
mod packages;
mod processes;
mod promql;
mod quotas;
mod revisions;
mod roles;
mod root;
mod routes;
mod security_groups;
mod services;
mod sidecars;
mod space_features;
mod spaces;
mod stats;
mod tasks;
mod upload;
mod usage;
mod usage_events;
mod users;

use crate::context::Context;
use axum::Router;

/// All routes of the public API but those of the token server.
pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .merge(root::routes())
        .merge(orgs::routes())
        .merge(spaces::routes())
        .merge(space_features::routes())
        .merge(roles::routes())
        .merge(users::routes())
        .merge(domains::routes())
        .merge(routes::routes())
        .merge(apps::routes())
        .merge(app_parts::routes())
        .merge(processes::routes())
        .merge(packages::routes())
        .merge(buildpacks::routes())
        .merge(builds::routes())
        .merge(droplets::routes())
        .merge(droplet_bits::routes())
        .merge(deployments::routes())
        .merge(tasks::routes())
        .merge(revisions::routes())
        .merge(manifests::routes())
        .merge(jobs::routes())
        .merge(events::routes())
        .merge(catalog::routes())
        .merge(services::routes())
        .merge(sidecars::routes())
        .merge(security_groups::routes())
        .merge(metadata::routes())
        .merge(quotas::routes())
        .merge(usage::routes())
        .merge(usage_events::routes())
        .merge(feature_flags::routes())
        .merge(isolation::routes())
        .merge(logcache::routes())
}
