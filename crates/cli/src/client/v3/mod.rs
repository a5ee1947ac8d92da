//! The calls of the CF v3 API and of our additions, one function each, by what they are about.

mod apps;
mod features;
mod push;
mod routes;
mod security_groups;
mod ssh;
mod staging;
mod tasks;
mod tenants;

pub use features::{EnvironmentVariableGroup, FeatureFlag};
pub use push::Of;
pub use security_groups::Place;
pub use ssh::SshLink;

use super::JOB;
use super::http::{Answer, Call, Client};
use super::wire::{Guid, Job, Page};
use crate::errors::Error;
use ::http::Method;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// Most pages of a list that are followed.
const MAX_PAGES: usize = 1_000;
/// Size of a page: the most that CF allows.
const PER_PAGE: &str = "5000";

impl Client {
    pub(super) async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        self.send(call).await?.json()
    }

    /// A list with all its pages.
    pub(super) async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, Error> {
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
    pub(super) async fn by_name<T: DeserializeOwned>(&self, call: Call, name: &str) -> Result<Option<T>, Error> {
        // A comma would separate several names.
        let name = name.replace(',', "%2C");
        let page: Page<T> = self
            .get(call.query("names", name).query("page", "1").query("per_page", "1"))
            .await?;
        Ok(page.resources.into_iter().next())
    }

    /// Waits for the job that an answer of status 202 names.
    pub(super) async fn job(&self, answer: &Answer, what: &str) -> Result<(), Error> {
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
