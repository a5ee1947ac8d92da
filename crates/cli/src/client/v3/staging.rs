//! Buildpacks, stacks, how builds went, and droplets as archives.

use super::super::http::{Call, Client};
use super::super::wire::{App, Build, Droplet};
use super::super::wire_staging::{BuildHistory, Buildpack, Stack};
use crate::errors::Error;
use ::http::Method;
use serde_json::{Value, json};
use std::path::Path;

const BUILDPACKS: &str = "/v3/buildpacks";

impl Client {
    /// The buildpacks of the platform, in the order in which they are tried.
    pub async fn buildpacks(&self) -> Result<Vec<Buildpack>, Error> {
        self.list(Call::new(Method::GET, BUILDPACKS).query("order_by", "position"))
            .await
    }

    /// Makes a buildpack without contents.
    pub async fn create_buildpack(&self, body: Value) -> Result<Buildpack, Error> {
        self.get(Call::new(Method::POST, BUILDPACKS).json(body)).await
    }

    /// Changes what is known of a buildpack.
    pub async fn update_buildpack(&self, guid: &str, change: Value) -> Result<Buildpack, Error> {
        self.get(Call::new(Method::PATCH, format!("{BUILDPACKS}/{guid}")).json(change))
            .await
    }

    /// Deletes a buildpack and waits until it is gone.
    pub async fn delete_buildpack(&self, guid: &str) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, format!("{BUILDPACKS}/{guid}"));
        let answer = self.send(call).await?;
        self.job(&answer, "deleting the buildpack").await
    }

    /// Gives a buildpack these contents.
    pub async fn fill_buildpack(&self, guid: &str, file: &std::fs::File, name: &str) -> Result<(), Error> {
        let answer = self
            .upload_bits(&format!("{BUILDPACKS}/{guid}/upload"), file, name)
            .await?;
        self.job(&answer, "taking the buildpack in").await
    }

    /// The stacks of the platform.
    pub async fn stacks(&self) -> Result<Vec<Stack>, Error> {
        self.list(Call::new(Method::GET, "/v3/stacks").query("order_by", "name"))
            .await
    }

    /// The apps that ask for a stack, as far as the user may see them.
    pub async fn apps_of_stack(&self, stack: &str) -> Result<Vec<App>, Error> {
        self.list(Call::new(Method::GET, "/v3/apps").query("stacks", stack))
            .await
    }

    /// The builds of an app, the newest first.
    pub async fn builds(&self, app: &str) -> Result<Vec<Build>, Error> {
        let call = Call::new(Method::GET, format!("/v3/apps/{app}/builds")).query("order_by", "-created_at");
        self.list(call).await
    }

    /// How a build went.
    pub async fn build_history(&self, build: &str) -> Result<BuildHistory, Error> {
        self.get(Call::new(Method::GET, format!("/paas/v1/builds/{build}/history")))
            .await
    }

    /// Ends a build that is under way.
    pub async fn cancel_build(&self, build: &str) -> Result<(), Error> {
        let call = Call::new(Method::POST, format!("/paas/v1/builds/{build}/cancel"));
        self.send(call).await.map(drop)
    }

    /// Forgets what builds of an app left for the next.
    pub async fn clear_cache(&self, app: &str) -> Result<(), Error> {
        let path = format!("/v3/apps/{app}/actions/clear_buildpack_cache");
        let answer = self.send(Call::new(Method::POST, path)).await?;
        self.job(&answer, "clearing the cache").await
    }

    /// Makes a droplet of this archive.
    pub async fn upload_droplet(&self, app: &str, file: &std::fs::File) -> Result<Droplet, Error> {
        let body = json!({"relationships": {"app": {"data": {"guid": app}}}});
        let droplet: Droplet = self.get(Call::new(Method::POST, "/v3/droplets").json(body)).await?;
        let path = format!("/v3/droplets/{}/upload", droplet.guid);
        let answer = self.upload_bits(&path, file, "droplet.tgz").await?;
        self.job(&answer, "taking the droplet in").await?;
        Ok(droplet)
    }

    /// Saves a droplet as `file`, and says its size in bytes. Nothing is left of a download that broke.
    pub async fn download_droplet(&self, droplet: &str, file: &Path) -> Result<u64, Error> {
        self.download(&format!("/v3/droplets/{droplet}/download"), file).await
    }

    /// Saves a droplet as `file`, an archive of an image's layout.
    pub async fn droplet_image(&self, droplet: &str, file: &Path) -> Result<u64, Error> {
        self.download(&format!("/v3/droplets/{droplet}/image"), file).await
    }
}
