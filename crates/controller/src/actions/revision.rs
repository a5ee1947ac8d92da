//! Revisions: what an app ran, recorded whenever it starts to run something else, so that it can be rolled back to.

use super::{By, fresh, sidecar};
use crate::error::{Answer, Failure};
use model::id::RevisionId;
use model::resource::{App, Droplet, Process, Revision};
use store::Tx;

/// How many are kept of each app.
const KEEP: u32 = 100;

/// Records what the app is about to run, where that is not what it ran last; the revision that describes it.
pub async fn record(tx: &Tx, app: &App, droplet: &Droplet, back_to: Option<u32>, by: &By) -> Answer<Revision> {
    let last = tx.revision_at(app.id, by.now).await?;
    let now = Revision {
        id: fresh::<RevisionId>(),
        app: app.id,
        version: last.as_ref().map_or(1, |last| last.version + 1),
        droplet: droplet.id,
        env: app.env.clone(),
        commands: commands(&tx.processes_of_app(app.id).await?),
        sidecars: sidecar::of_app(tx, app.id).await?,
        description: String::new(),
        metadata: model::resource::Metadata::default(),
        created_at: by.now,
        updated_at: by.now,
    };
    let mut news = match &last {
        None => vec!["Initial revision.".to_owned()],
        Some(last) => differences(last, &now),
    };
    if let (true, Some(last)) = (news.is_empty(), last) {
        return Ok(last);
    }
    if let Some(version) = back_to {
        news.push(format!("Rolled back to revision {version}."));
    }
    news.sort_unstable();
    let now = Revision {
        description: news.join(" "),
        ..now
    };
    tx.revision_create(&now, KEEP).await?;
    Ok(now)
}

fn commands(processes: &[Process]) -> std::collections::BTreeMap<model::name::ProcessType, Option<String>> {
    let own = |process: &Process| (process.process_type.clone(), process.command.clone());
    processes.iter().map(own).collect()
}

/// What is new, in CF's words.
fn differences(last: &Revision, now: &Revision) -> Vec<String> {
    let mut news = Vec::new();
    if last.droplet != now.droplet {
        news.push("New droplet deployed.".to_owned());
    }
    if last.env != now.env {
        news.push("New environment variables deployed.".to_owned());
    }
    if !model::sidecar::same(&last.sidecars, &now.sidecars) {
        news.push("Sidecars updated.".to_owned());
    }
    for (kind, command) in &now.commands {
        match (last.commands.get(kind), command) {
            (None, _) => news.push(format!("New process type '{kind}' added.")),
            (Some(before), after) if before == after => {}
            (Some(None), Some(_)) => news.push(format!("Custom start command added for '{kind}' process.")),
            (Some(Some(_)), None) => news.push(format!("Custom start command removed for '{kind}' process.")),
            (Some(_), _) => news.push(format!("Custom start command updated for '{kind}' process.")),
        }
    }
    let gone = last.commands.keys().filter(|kind| !now.commands.contains_key(*kind));
    news.extend(gone.map(|kind| format!("Process type '{kind}' removed.")));
    news
}

/// Gives the app environment, commands and sidecars of a revision; its droplet, to be deployed.
pub async fn restore(tx: &Tx, app: &mut App, revision: &Revision, by: &By) -> Answer<Droplet> {
    let droplet = tx.droplet_fetch(revision.droplet).await?;
    let droplet = droplet.ok_or_else(|| {
        Failure::refused("Unable to deploy this revision, the droplet for this revision no longer exists.")
    })?;
    app.env = revision.env.clone();
    for mut process in tx.processes_of_app(app.id).await? {
        let Some(command) = revision.commands.get(&process.process_type) else {
            continue;
        };
        if process.command != *command {
            process.command.clone_from(command);
            process.updated_at = by.now;
            tx.process_update(&process).await?;
        }
    }
    sidecar::restore(tx, app, &revision.sidecars, &droplet.sidecars, by).await?;
    Ok(droplet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{SecretEnv, Timestamp};
    use uuid::Uuid;

    fn revision(droplet: u128, commands: &[(&str, Option<&str>)]) -> Revision {
        Revision {
            id: Uuid::nil().into(),
            app: Uuid::nil().into(),
            version: 1,
            droplet: Uuid::from_u128(droplet).into(),
            env: SecretEnv::default(),
            commands: commands
                .iter()
                .map(|(kind, command)| (kind.parse().expect("valid"), command.map(ToOwned::to_owned)))
                .collect(),
            sidecars: Vec::new(),
            description: String::new(),
            metadata: model::resource::Metadata::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn differences_are_told_in_cfs_words() {
        let last = revision(1, &[("web", None), ("old", None), ("a", Some("x")), ("b", Some("x"))]);
        assert!(differences(&last, &last).is_empty());
        let mut now = revision(2, &[("web", Some("run")), ("new", None), ("a", None), ("b", Some("y"))]);
        now.env.set("A", "1");
        now.sidecars.push(model::staging::SidecarTemplate {
            name: "agent".to_owned(),
            command: "./agent".to_owned(),
            process_types: vec!["web".to_owned()],
            memory_mb: None,
        });
        let mut news = differences(&last, &now);
        news.sort_unstable();
        assert_eq!(
            news,
            [
                "Custom start command added for 'web' process.",
                "Custom start command removed for 'a' process.",
                "Custom start command updated for 'b' process.",
                "New droplet deployed.",
                "New environment variables deployed.",
                "New process type 'new' added.",
                "Process type 'old' removed.",
                "Sidecars updated.",
            ]
        );
    }
}
