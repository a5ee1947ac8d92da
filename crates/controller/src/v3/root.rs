//! The root documents: where everything is.

use crate::context::Context;
use crate::error::Answer;
use crate::oauth::SSH_CLIENT;
use api::v3::{self, CF_API_VERSION, Link, RootLink};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use http::header;
use std::collections::BTreeMap;

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/", get(root))
        .route("/v3", get(v3_root))
        .route("/v3/info", get(info))
        .route("/v3/openapi.json", get(openapi))
}

async fn root(State(context): State<Context>) -> Answer<Json<v3::Root>> {
    let url = &context.config.public_url;
    let link = |href: String| Some(RootLink { href, meta: None });
    let version = BTreeMap::from([("version".to_owned(), CF_API_VERSION.to_owned())]);
    let api = RootLink {
        href: format!("{url}/v3"),
        meta: Some(version),
    };
    let links = [
        ("self", link(url.clone())),
        ("cloud_controller_v2", None),
        ("cloud_controller_v3", Some(api)),
        ("uaa", link(url.clone())),
        ("login", link(url.clone())),
        ("log_cache", link(url.clone())),
        ("app_ssh", app_ssh(&context).await?),
        ("network_policy_v0", None),
        ("network_policy_v1", None),
        ("credhub", None),
        ("routing", None),
        ("logging", None),
        ("log_stream", None),
    ];
    Ok(Json(v3::Root {
        links: links.into_iter().map(|(name, link)| (name.to_owned(), link)).collect(),
    }))
}

/// Where instances are reached by SSH, and how clients know that it is the right one.
async fn app_ssh(context: &Context) -> Answer<Option<RootLink>> {
    let Some(address) = &context.config.ssh_address else {
        return Ok(None);
    };
    let fingerprint = context.host_key.get(context).await?.fingerprint();
    Ok(Some(RootLink {
        href: address.clone(),
        meta: Some(BTreeMap::from([
            ("host_key_fingerprint".to_owned(), fingerprint),
            ("oauth_client".to_owned(), SSH_CLIENT.to_owned()),
        ])),
    }))
}

async fn v3_root(State(context): State<Context>) -> Json<v3::V3Root> {
    let url = &context.config.public_url;
    let names = [
        "apps",
        "audit_events",
        "buildpacks",
        "builds",
        "deployments",
        "domains",
        "droplets",
        "organizations",
        "packages",
        "processes",
        "resource_matches",
        "roles",
        "routes",
        "spaces",
        "stacks",
    ];
    let mut links: BTreeMap<String, Link> = names
        .into_iter()
        .map(|name| {
            let href = format!("{url}/v3/{name}");
            (name.to_owned(), Link { href, method: None })
        })
        .collect();
    let href = format!("{url}/v3");
    links.insert("self".to_owned(), Link { href, method: None });
    Json(v3::V3Root { links })
}

/// The OpenAPI document, as committed: a test keeps it true.
async fn openapi() -> impl IntoResponse {
    const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

async fn info(State(context): State<Context>) -> Json<v3::Info> {
    Json(v3::Info {
        name: "paas".to_owned(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        version: 0,
        description: String::new(),
        cli_version: v3::CliVersion::default(),
        custom: serde_json::json!({"router_port": context.config.router_port}),
        links: super::links::links(&context, [("self", "/v3/info".to_owned())]),
    })
}
