//! What a push calls: manifest, packages, builds, deployments. What is made is made once, also where the connection breaks.

use super::super::AWAY;
use super::super::http::{Body, Call, Client};
use super::super::wire::{Build, Deployment, Matched, MatchedResource, Package, Page, Resource};
use crate::actor::push::plan::Staging;
use crate::args::push::{Strategy, StrategyName};
use crate::errors::Error;
use crate::manifest::Image;
use ::http::Method;
use futures_util::{StreamExt as _, TryStreamExt as _};
use model::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Files in one request of resource matching, as CF's own client has it.
const MATCH_CHUNK: usize = 5_000;
/// Requests of resource matching at once.
const MATCH_PARALLEL: usize = 4;

/// Body of one request of resource matching.
#[derive(Serialize)]
struct Chunk<'a> {
    resources: &'a [Resource],
}

/// What is rolled out.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// The app as it is.
    Current,
    /// Another droplet.
    Droplet(&'a str),
    /// What it ran once, with environment and commands of then.
    Revision(&'a str),
}

impl Strategy {
    /// As a deployment is asked for.
    fn body(&self) -> Result<Value, Error> {
        let canary = self.strategy == Some(StrategyName::Canary);
        if !canary && !self.instance_steps.is_empty() {
            return Err(Error::usage("--instance-steps belongs to --strategy canary"));
        }
        let name = if canary { "canary" } else { "rolling" };
        let mut body = json!({"strategy": name});
        if let Some(count) = self.max_in_flight {
            body["options"]["max_in_flight"] = json!(count);
        }
        if !self.instance_steps.is_empty() {
            let step = |weight: &u8| json!({"instance_weight": weight});
            let steps: Vec<Value> = self.instance_steps.iter().map(step).collect();
            body["options"]["canary"] = json!({"steps": steps});
        }
        Ok(body)
    }
}

impl Client {
    /// Applies a manifest and waits until it is.
    pub async fn apply_manifest(&self, space: &str, yaml: String) -> Result<(), Error> {
        let mut call = Call::new(Method::POST, format!("/v3/spaces/{space}/actions/apply_manifest"));
        call.body = Body::Yaml(yaml);
        let answer = self.send(call).await?;
        self.job(&answer, "applying the manifest").await
    }

    /// The SHA-1 values of those files that the server has, so that they need not be sent.
    pub async fn match_resources(&self, files: &[Resource]) -> Result<HashSet<(String, u64)>, Error> {
        let mut calls = Vec::new();
        for chunk in files.chunks(MATCH_CHUNK) {
            let mut call = Call::new(Method::POST, "/v3/resource_matches");
            let json = serde_json::to_vec(&Chunk { resources: chunk }).map_err(|error| Error::Protocol {
                request: call.name(),
                detail: error.to_string(),
            })?;
            call.body = Body::Written(json.into());
            calls.push(call);
        }
        let answers: Vec<Vec<MatchedResource>> = futures_util::stream::iter(calls)
            .map(|call| async move {
                let matched: Matched = self.get(call).await?;
                Ok::<_, Error>(matched.resources)
            })
            .buffered(MATCH_PARALLEL)
            .try_collect()
            .await?;
        let key = |resource: MatchedResource| (resource.checksum.value, resource.size_in_bytes);
        Ok(answers.into_iter().flatten().map(key).collect())
    }

    /// Makes an empty package.
    pub async fn create_package(&self, app: &str) -> Result<Package, Error> {
        let body = json!({"type": "bits", "relationships": {"app": {"data": {"guid": app}}}});
        self.get(Call::new(Method::POST, "/v3/packages").json(body)).await
    }

    /// A package that is an image in a registry, which can be staged at once.
    pub async fn create_image_package(
        &self,
        app: &str,
        image: &Image,
        password: Option<&Secret>,
    ) -> Result<Package, Error> {
        let mut data = json!({"image": image.reference});
        // Without a name, the password in the environment is for another image.
        if let (Some(username), Some(password)) = (&image.username, password) {
            data["username"] = json!(username);
            data["password"] = json!(password.expose());
        }
        let body = json!({"type": "docker", "data": data, "relationships": {"app": {"data": {"guid": app}}}});
        self.get(Call::new(Method::POST, "/v3/packages").json(body)).await
    }

    /// A package, also after the server was away.
    pub async fn package(&self, guid: &str) -> Result<Package, Error> {
        self.send_patiently(Call::new(Method::GET, format!("/v3/packages/{guid}")))
            .await?
            .json()
    }

    /// Begins a staging. Where the answer is lost, finds the one that was begun.
    pub async fn create_build(&self, package: &str, staging: Staging) -> Result<Build, Error> {
        let mut body = json!(staging);
        body["package"] = json!({"guid": package});
        let call = Call::new(Method::POST, "/v3/builds").json(body);
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
    pub async fn create_deployment(&self, app: &str, of: Of<'_>, strategy: &Strategy) -> Result<Deployment, Error> {
        let before = self.latest_deployment(app).await?.map(|deployment| deployment.guid);
        let mut body = strategy.body()?;
        body["relationships"] = json!({"app": {"data": {"guid": app}}});
        match of {
            Of::Current => {}
            Of::Droplet(guid) => body["droplet"] = json!({"guid": guid}),
            Of::Revision(guid) => body["revision"] = json!({"guid": guid}),
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

    /// Lets a canary go on.
    pub async fn continue_deployment(&self, guid: &str) -> Result<Deployment, Error> {
        self.get(Call::new(
            Method::POST,
            format!("/v3/deployments/{guid}/actions/continue"),
        ))
        .await
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_travels_as_cf_has_it() {
        let rolling = Strategy::default().body().expect("valid");
        assert_eq!(rolling, json!({"strategy": "rolling"}));
        let mut strategy = Strategy {
            strategy: Some(StrategyName::Canary),
            instance_steps: vec![10, 50],
            max_in_flight: Some(3),
        };
        assert_eq!(
            strategy.body().expect("valid"),
            json!({
                "strategy": "canary",
                "options": {
                    "max_in_flight": 3,
                    "canary": {"steps": [{"instance_weight": 10}, {"instance_weight": 50}]},
                },
            })
        );
        strategy.strategy = Some(StrategyName::Rolling);
        assert!(strategy.body().is_err());
    }
}
