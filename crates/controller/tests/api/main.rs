//! The public API through its real router, on real stores of both engines, with real blobs and logs.

mod bits;
mod buildpacks;
mod canary;
mod client;
mod compat;
mod flags;
mod lists;
mod manifests;
mod oauth;
mod push;
mod quotas;
mod revisions;
mod roles;
mod routes;
mod run;
mod security_groups;
mod services;
mod tasks;
mod tenants;
mod uploads;
mod users;
mod world;
