//! The calls of the CF v3 API and of our additions, one function each.

use super::http::{Answer, Body, Call, Client};
use super::wire::{
    App, AuditEvent, Build, Cell, Checksum, Deployment, Droplet, Guid, Instance, Job, Matched, MatchedResource, Named,
    Package, Page, Process, Resource, Route,
};
use super::{AWAY, JOB};
use crate::errors::Error;
use ::http::Method;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Files in one request of resource matching, as CF's own client has it.
pub const MATCH_CHUNK: usize = 5_000;
/// Requests of resource matching at once.
const MATCH_PARALLEL: usize = 4;
/// Most pages of a list that are followed.
const MAX_PAGES: usize = 1_000;
/// Size of a page: the most that CF allows.
const PER_PAGE: &str = "5000";

impl Client {
    async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        self.send(call).await?.json()
    }

    /// A list with all its pages.
    async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, Error> {
        let mut page: Page<T> = self.get(call.query("per_page", PER_PAGE)).await?;
        let mut all = std::mem::take(&mut page.resources);
        for _ in 0..MAX_PAGES {
            let Some(next) = page.pagination.and_then(|pagination| pagination.next) else {
                return Ok(all);
            };
            page = self.get(Call::new(Method::GET, next.href)).await?;
            all.append(&mut page.resources);
        }
        Err(Error::Protocol {
            request: "a list".into(),
            detail: format!("it has more than {MAX_PAGES} pages"),
        })
    }

    /// The one resource with this name; `None` where there is none.
    async fn by_name<T: DeserializeOwned>(&self, call: Call, name: &str) -> Result<Option<T>, Error> {
        // A comma would separate several names.
        let name = name.replace(',', "%2C");
        let page: Page<T> = self
            .get(call.query("names", name).query("page", "1").query("per_page", "1"))
            .await?;
        Ok(page.resources.into_iter().next())
    }

    // Organisations and spaces

    /// All organisations that the user may see.
    pub async fn orgs(&self) -> Result<Vec<Named>, Error> {
        self.list(Call::new(Method::GET, "/v3/organizations").query("order_by", "name"))
            .await
    }

    /// An organisation by name.
    pub async fn org(&self, name: &str) -> Result<Option<Named>, Error> {
        self.by_name(Call::new(Method::GET, "/v3/organizations"), name).await
    }

    /// Makes an organisation.
    pub async fn create_org(&self, name: &str) -> Result<Named, Error> {
        let body = json!({"name": name, "suspended": false});
        self.get(Call::new(Method::POST, "/v3/organizations").json(body)).await
    }

    /// The spaces of an organisation.
    pub async fn spaces(&self, org: &str) -> Result<Vec<Named>, Error> {
        let call = Call::new(Method::GET, "/v3/spaces")
            .query("order_by", "name")
            .query("organization_guids", org);
        self.list(call).await
    }

    /// A space by name.
    pub async fn space(&self, org: &str, name: &str) -> Result<Option<Named>, Error> {
        self.by_name(
            Call::new(Method::GET, "/v3/spaces").query("organization_guids", org),
            name,
        )
        .await
    }

    /// Makes a space.
    pub async fn create_space(&self, org: &str, name: &str) -> Result<Named, Error> {
        let body = json!({"name": name, "relationships": {"organization": {"data": {"guid": org}}}});
        self.get(Call::new(Method::POST, "/v3/spaces").json(body)).await
    }

    // Apps and processes

    /// The apps of a space.
    pub async fn apps(&self, space: &str) -> Result<Vec<App>, Error> {
        self.list(
            Call::new(Method::GET, "/v3/apps")
                .query("order_by", "name")
                .query("space_guids", space),
        )
        .await
    }

    /// An app by name.
    pub async fn app(&self, space: &str, name: &str) -> Result<Option<App>, Error> {
        self.by_name(Call::new(Method::GET, "/v3/apps").query("space_guids", space), name)
            .await
    }

    /// An app by guid.
    pub async fn app_by_guid(&self, guid: &str) -> Result<App, Error> {
        self.get(Call::new(Method::GET, format!("/v3/apps/{guid}"))).await
    }

    /// The processes of all apps of a space, each with the state of its instances.
    pub async fn space_processes(&self, space: &str) -> Result<Vec<Process>, Error> {
        let call = Call::new(Method::GET, "/v3/processes")
            .query("embed", "process_instances")
            .query("space_guids", space);
        self.list(call).await
    }

    /// The processes of an app.
    pub async fn processes(&self, app: &str) -> Result<Vec<Process>, Error> {
        self.list(Call::new(Method::GET, format!("/v3/apps/{app}/processes")))
            .await
    }

    /// State and use of the instances of a process.
    pub async fn stats(&self, process: &str) -> Result<Vec<Instance>, Error> {
        let page: Page<Instance> = self
            .get(Call::new(Method::GET, format!("/v3/processes/{process}/stats")))
            .await?;
        Ok(page.resources)
    }

    /// Changes the size of a process.
    pub async fn scale(&self, app: &str, process: &str, body: Value) -> Result<Process, Error> {
        let path = format!("/v3/apps/{app}/processes/{process}/actions/scale");
        self.get(Call::new(Method::POST, path).json(body)).await
    }

    /// `start` or `stop`.
    pub async fn app_action(&self, app: &str, action: &str) -> Result<App, Error> {
        self.get(Call::new(Method::POST, format!("/v3/apps/{app}/actions/{action}")))
            .await
    }

    /// Deletes an app and waits until it is gone.
    pub async fn delete_app(&self, app: &str) -> Result<(), Error> {
        let answer = self.send(Call::new(Method::DELETE, format!("/v3/apps/{app}"))).await?;
        self.job(&answer, "deleting the app").await
    }

    /// The variables of an app and what the platform adds.
    pub async fn env(&self, app: &str) -> Result<Value, Error> {
        self.get(Call::new(Method::GET, format!("/v3/apps/{app}/env"))).await
    }

    /// Sets variables; null removes one.
    pub async fn set_env(&self, app: &str, vars: Value) -> Result<Value, Error> {
        let path = format!("/v3/apps/{app}/environment_variables");
        self.get(Call::new(Method::PATCH, path).json(json!({"var": vars})))
            .await
    }

    /// The droplet that an app runs; `None` where it has none.
    pub async fn current_droplet(&self, app: &str) -> Result<Option<Droplet>, Error> {
        match self
            .get(Call::new(Method::GET, format!("/v3/apps/{app}/droplets/current")))
            .await
        {
            Err(error) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes a droplet the one that an app runs from its next start on.
    pub async fn set_droplet(&self, app: &str, droplet: &str) -> Result<(), Error> {
        let path = format!("/v3/apps/{app}/relationships/current_droplet");
        self.send(Call::new(Method::PATCH, path).json(json!({"data": {"guid": droplet}})))
            .await
            .map(drop)
    }

    /// What happened to an app, the newest first.
    pub async fn events(&self, app: &str, limit: u32) -> Result<Vec<AuditEvent>, Error> {
        let call = Call::new(Method::GET, "/v3/audit_events")
            .query("target_guids", app)
            .query("order_by", "-created_at")
            .query("per_page", limit.to_string());
        let page: Page<AuditEvent> = self.get(call).await?;
        Ok(page.resources)
    }

    /// Why an app is as it is.
    pub async fn why(&self, app: &str) -> Result<Value, Error> {
        self.get(Call::new(Method::GET, format!("/paas/v1/apps/{app}/why")))
            .await
    }

    // Push

    /// Applies a manifest and waits until it is.
    pub async fn apply_manifest(&self, space: &str, yaml: String) -> Result<(), Error> {
        let mut call = Call::new(Method::POST, format!("/v3/spaces/{space}/actions/apply_manifest"));
        call.body = Body::Yaml(yaml);
        let answer = self.send(call).await?;
        self.job(&answer, "applying the manifest").await
    }

    /// The SHA-1 values of those files that the server has, so that they need not be sent.
    pub async fn match_resources(&self, files: &[Resource]) -> Result<HashSet<(String, u64)>, Error> {
        let chunks: Vec<Vec<Resource>> = files.chunks(MATCH_CHUNK).map(<[Resource]>::to_vec).collect();
        let answers: Vec<Vec<MatchedResource>> = futures_util::stream::iter(chunks)
            .map(|chunk| async move {
                let call = Call::new(Method::POST, "/v3/resource_matches").json(json!({"resources": chunk}));
                let matched: Matched = self.get(call).await?;
                Ok::<_, Error>(matched.resources)
            })
            .buffered(MATCH_PARALLEL)
            .try_collect()
            .await?;
        let key = |resource: MatchedResource| {
            (
                Checksum {
                    value: resource.checksum.value,
                }
                .value,
                resource.size_in_bytes,
            )
        };
        Ok(answers.into_iter().flatten().map(key).collect())
    }

    /// Makes an empty package.
    pub async fn create_package(&self, app: &str) -> Result<Package, Error> {
        let body = json!({"type": "bits", "relationships": {"app": {"data": {"guid": app}}}});
        self.get(Call::new(Method::POST, "/v3/packages").json(body)).await
    }

    /// A package, also after the server was away.
    pub async fn package(&self, guid: &str) -> Result<Package, Error> {
        self.send_patiently(Call::new(Method::GET, format!("/v3/packages/{guid}")))
            .await?
            .json()
    }

    /// Begins a staging. Where the answer is lost, finds the one that was begun.
    pub async fn create_build(&self, package: &str) -> Result<Build, Error> {
        let call = Call::new(Method::POST, "/v3/builds").json(json!({"package": {"guid": package}}));
        self.create_once(call, || async {
            let call = Call::new(Method::GET, "/v3/builds")
                .query("package_guids", package)
                .query("order_by", "-created_at");
            let page: Page<Build> = self.send_patiently(call).await?.json()?;
            Ok(page.resources.into_iter().next())
        })
        .await
    }

    /// A build, also after the server was away.
    pub async fn build(&self, guid: &str) -> Result<Build, Error> {
        self.send_patiently(Call::new(Method::GET, format!("/v3/builds/{guid}")))
            .await?
            .json()
    }

    /// The newest build of an app.
    pub async fn latest_build(&self, app: &str) -> Result<Option<Build>, Error> {
        let call = Call::new(Method::GET, "/v3/builds")
            .query("app_guids", app)
            .query("order_by", "-created_at")
            .query("per_page", "1");
        let page: Page<Build> = self.get(call).await?;
        Ok(page.resources.into_iter().next())
    }

    /// Begins a rollout, of the droplet that the app has where none is named.
    ///
    /// Where the answer is lost, finds the one that was begun: the newest one of the app that is none of `before`.
    pub async fn create_deployment(&self, app: &str, droplet: Option<&str>) -> Result<Deployment, Error> {
        let before = self.latest_deployment(app).await?.map(|deployment| deployment.guid);
        let mut body = json!({"strategy": "rolling", "relationships": {"app": {"data": {"guid": app}}}});
        if let Some(droplet) = droplet {
            body["droplet"] = json!({"guid": droplet});
        }
        let call = Call::new(Method::POST, "/v3/deployments").json(body);
        self.create_once(call, || async {
            let latest = self.latest_deployment(app).await?;
            Ok(latest.filter(|latest| Some(&latest.guid) != before.as_ref()))
        })
        .await
    }

    /// A rollout, also after the server was away.
    pub async fn deployment(&self, guid: &str) -> Result<Deployment, Error> {
        self.send_patiently(Call::new(Method::GET, format!("/v3/deployments/{guid}")))
            .await?
            .json()
    }

    /// The newest rollout of an app.
    pub async fn latest_deployment(&self, app: &str) -> Result<Option<Deployment>, Error> {
        let call = Call::new(Method::GET, "/v3/deployments")
            .query("app_guids", app)
            .query("order_by", "-created_at")
            .query("per_page", "1");
        let page: Page<Deployment> = self.send_patiently(call).await?.json()?;
        Ok(page.resources.into_iter().next())
    }

    /// Returns to the version before.
    pub async fn cancel_deployment(&self, guid: &str) -> Result<(), Error> {
        self.send(Call::new(
            Method::POST,
            format!("/v3/deployments/{guid}/actions/cancel"),
        ))
        .await
        .map(drop)
    }

    /// Sends a request that makes something exactly once, although the connection may break in it.
    async fn create_once<T, F, R>(&self, call: Call, find: F) -> Result<T, Error>
    where
        T: DeserializeOwned,
        F: Fn() -> R,
        R: Future<Output = Result<Option<T>, Error>>,
    {
        let started = Instant::now();
        loop {
            match self.send(call.clone()).await {
                Err(error) if error.is_away() && started.elapsed() < AWAY => {
                    if let Some(found) = find().await? {
                        return Ok(found);
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                other => return other?.json(),
            }
        }
    }

    // Routes

    /// The routes of a space.
    pub async fn routes(&self, space: &str) -> Result<Vec<Route>, Error> {
        self.list(Call::new(Method::GET, "/v3/routes").query("space_guids", space))
            .await
    }

    /// The routes of an app.
    pub async fn app_routes(&self, app: &str) -> Result<Vec<Route>, Error> {
        self.list(Call::new(Method::GET, format!("/v3/apps/{app}/routes")))
            .await
    }

    /// The domains with one of these names.
    pub async fn domains(&self, names: &[String]) -> Result<Vec<Named>, Error> {
        self.list(Call::new(Method::GET, "/v3/domains").query("names", names.join(",")))
            .await
    }

    /// A route by its parts.
    pub async fn find_route(&self, domain: &str, host: &str, path: &str) -> Result<Option<Route>, Error> {
        let call = Call::new(Method::GET, "/v3/routes")
            .query("domain_guids", domain)
            .query("hosts", host)
            .query("paths", path);
        let found: Vec<Route> = self.list(call).await?;
        // An empty filter may have been read as none.
        Ok(found.into_iter().find(|route| {
            route.host.as_deref().unwrap_or_default() == host && route.path.as_deref().unwrap_or_default() == path
        }))
    }

    /// Makes a route.
    pub async fn create_route(&self, space: &str, domain: &str, host: &str, path: &str) -> Result<Route, Error> {
        let mut body = json!({"relationships": {
            "space": {"data": {"guid": space}},
            "domain": {"data": {"guid": domain}},
        }});
        for (name, value) in [("host", host), ("path", path)] {
            if !value.is_empty() {
                body[name] = json!(value);
            }
        }
        self.get(Call::new(Method::POST, "/v3/routes").json(body)).await
    }

    /// Leads a route to an app, too.
    pub async fn map_route(&self, route: &str, app: &str) -> Result<(), Error> {
        let body = json!({"destinations": [{"app": {"guid": app}}]});
        self.send(Call::new(Method::POST, format!("/v3/routes/{route}/destinations")).json(body))
            .await
            .map(drop)
    }

    /// Takes a destination from a route.
    pub async fn unmap_route(&self, route: &str, destination: &str) -> Result<(), Error> {
        let path = format!("/v3/routes/{route}/destinations/{destination}");
        self.send(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Deletes a route and waits until it is gone.
    pub async fn delete_route(&self, route: &str) -> Result<(), Error> {
        let answer = self
            .send(Call::new(Method::DELETE, format!("/v3/routes/{route}")))
            .await?;
        self.job(&answer, "deleting the route").await
    }

    // Operators

    /// The cells.
    pub async fn cells(&self) -> Result<Vec<Cell>, Error> {
        let value: Value = self.get(Call::new(Method::GET, "/admin/v1/cells")).await?;
        let cells = ["resources", "cells"]
            .iter()
            .find_map(|name| value.get(*name).cloned())
            .unwrap_or(value);
        serde_json::from_value(cells).map_err(|error| Error::Protocol {
            request: "GET /admin/v1/cells".into(),
            detail: error.to_string(),
        })
    }

    /// `cordon` or `uncordon`.
    pub async fn cell_action(&self, cell: &str, action: &str) -> Result<(), Error> {
        self.send(Call::new(Method::POST, format!("/admin/v1/cells/{cell}/{action}")))
            .await
            .map(drop)
    }

    // Jobs

    /// Waits for the job that an answer of status 202 names.
    async fn job(&self, answer: &Answer, what: &str) -> Result<(), Error> {
        let Some(location) = answer.location() else {
            return Ok(());
        };
        let started = Instant::now();
        // The server holds the request until the job ends. Only for a server that does not there is a pause.
        let mut pause = Duration::from_millis(20);
        while started.elapsed() < JOB {
            let job: Job = self
                .send_patiently(Call::new(Method::GET, location.clone()))
                .await?
                .json()?;
            match job.state.as_str() {
                "COMPLETE" => {
                    job.warnings.iter().for_each(|warning| self.ui().warn(&warning.detail));
                    return Ok(());
                }
                "FAILED" => {
                    let first = job.errors.into_iter().next();
                    return Err(first.map_or_else(
                        || Error::JobFailed {
                            what: what.to_owned(),
                            detail: String::new(),
                        },
                        |error| job_refusal(what, error),
                    ));
                }
                _ => {}
            }
            self.ui().heartbeat(what, started, Some(JOB));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Err(Error::TimedOut {
            what: what.to_owned(),
            seconds: JOB.as_secs(),
            resume: None,
        })
    }
}

/// A failed job as if its request had been refused: the same codes and texts.
fn job_refusal(what: &str, error: api::error::ApiError) -> Error {
    Error::Refused(Box::new(crate::errors::Refusal {
        status: if error.code == 10_001 { 500 } else { 422 },
        code: error.code,
        title: error.title,
        detail: error.detail,
        hint: error.hint,
        request_id: None,
        request: what.to_owned(),
    }))
}

/// The guid of a reference that may be missing.
pub fn guid_of(reference: Option<&Guid>) -> Option<&str> {
    reference.map(|reference| reference.guid.as_str())
}
