//! The public API through its real router, on real stores of both engines, with real blobs and logs.

mod bits;
mod buildpacks;
mod canary;
mod client;
mod manifests;
mod oauth;
mod push;
mod revisions;
mod routes;
mod run;
mod security_groups;
mod services;
mod tasks;
mod tenants;
mod uploads;
mod users;
