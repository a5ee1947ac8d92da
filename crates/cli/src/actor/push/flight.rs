//! Recognises the rollout that an equal push of this user began and that is still under way: such a push watches it
//! instead of beginning another.
//!
//! Equal means: the same manifest and flags (kept here by digest when the rollout began), the same droplet, and no change
//! of the app since. Whatever is in doubt begins a rollout of its own, which is right in any case.

use super::super::Target;
use super::plan::Plan;
use crate::client::v3::guid_of;
use crate::client::wire::{App, Deployment, parse_time};
use crate::config::Config;
use crate::errors::Error;
use sha1::{Digest as _, Sha1};
use std::path::PathBuf;

/// Names what is asked for.
pub fn fingerprint(yaml: &str) -> String {
    hex::encode(Sha1::digest(yaml.as_bytes()))
}

fn path(config: &Config, app: &str) -> PathBuf {
    config.cache.join("pushes").join(format!("{app}.flight"))
}

/// Notes that `deployment` was begun for what `fingerprint` names. A failure costs the recognition only.
pub fn note(config: &Config, app: &str, deployment: &str, fingerprint: &str) {
    let path = path(config, app);
    if let Some(folder) = path.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = std::fs::write(path, format!("{deployment} {fingerprint}"));
}

/// The rollout under way that was begun for the same, as far as is known before staging.
///
/// # Errors
/// Where the server can't be asked.
pub async fn recall(target: &Target, plan: &Plan, fingerprint: &str) -> Result<Option<Deployment>, Error> {
    let [only] = plan.manifest.apps.as_slice() else {
        return Ok(None);
    };
    let Some(app) = target.client.app(&target.space.guid, &only.name).await? else {
        return Ok(None);
    };
    let Ok(noted) = std::fs::read_to_string(path(&target.config, &app.guid)) else {
        return Ok(None);
    };
    let latest = target.client.latest_deployment(&app.guid).await?;
    Ok(latest.filter(|latest| {
        !latest.status.is_final() && noted == format!("{} {fingerprint}", latest.guid) && unchanged(&app, latest)
    }))
}

/// Whether nothing of the app was changed since the rollout began, such as a variable.
fn unchanged(app: &App, deployment: &Deployment) -> bool {
    match (parse_time(&app.updated_at), parse_time(&deployment.created_at)) {
        (Some(app), Some(deployment)) => app <= deployment,
        _ => false,
    }
}

/// Whether `deployment` rolls out `droplet`.
pub fn rolls_out(deployment: &Deployment, droplet: &str) -> bool {
    guid_of(deployment.droplet.as_ref()) == Some(droplet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_after_the_rollout_began_is_noticed() {
        let app =
            |at: &str| serde_json::from_value::<App>(json!({"guid": "a", "name": "a", "updated_at": at})).expect("app");
        let deployment: Deployment = serde_json::from_value(
            json!({"guid": "d", "created_at": "2026-03-01T12:00:00Z", "droplet": {"guid": "x"}}),
        )
        .expect("deployment");
        assert!(unchanged(&app("2026-03-01T12:00:00Z"), &deployment));
        assert!(!unchanged(&app("2026-03-01T12:00:01Z"), &deployment));
        assert!(!unchanged(&app(""), &deployment));
        assert!(rolls_out(&deployment, "x") && !rolls_out(&deployment, "y"));
    }
}
