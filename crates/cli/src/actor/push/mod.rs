//! Push: from a folder to running instances.
//!
//! The order: scan every folder (what can't be pushed is refused before anything is made), apply the manifest while the
//! files are hashed, and then for each app: match, upload, stage, roll out, watch until the true outcome is known.

pub mod flight;
pub mod follow;
pub mod history;
pub mod layout;
pub mod plan;
pub mod send;
pub mod track;

use super::{Cx, InFlight, Target};
use crate::args::push::Strategy;
use crate::client::Client;
use crate::client::v3::{Of, guid_of};
use crate::client::wire::{App, Deployment, Instance, Process};
use crate::errors::Error;
use crate::manifest::Entry;
use crate::source::hash::Hashed;
use crate::source::{Tree, hash, scan};
use crate::ui::format;
use crate::ui::waterfall::Span;
use follow::{Follow, Staged};
use plan::Plan;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use track::Track;

/// What a push came to.
#[derive(Debug, Serialize)]
pub struct Pushed {
    pub app: App,
    pub urls: Vec<String>,
    /// Absent where the app was not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,
    /// Absent where a droplet was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    pub droplet: String,
    /// Whether an equal earlier build was taken.
    pub reused: bool,
    pub files: u64,
    pub files_sent: u64,
    pub bytes_sent: u64,
    pub instances: Vec<Instance>,
    pub phases: Vec<Span>,
    pub total_ms: u64,
}

/// A folder that was looked through.
struct Scanned {
    entry: Entry,
    tree: Tree,
}

/// Pushes the apps of `plan`, one after the other.
///
/// # Errors
/// Of the first app that fails.
pub async fn run(cx: &Cx, plan: Plan) -> Result<Vec<Pushed>, Error> {
    let started = Instant::now();
    let mut scanned = Vec::new();
    for entry in &plan.manifest.apps {
        let folder = entry.folder.clone();
        let tree = match (&plan.droplet, entry.image()) {
            (None, None) => blocking(move || scan::scan(&folder)).await?,
            (Some(_), _) | (None, Some(_)) => Tree::default(),
        };
        scanned.push(Scanned {
            entry: entry.clone(),
            tree,
        });
    }
    let target = cx.target().await?;
    let yaml = plan.manifest.to_yaml()?;
    let fingerprint = flight::fingerprint(&yaml);
    let apply = async {
        let begun = started.elapsed();
        let same = flight::recall(&target, &plan, &fingerprint).await?;
        target.client.apply_manifest(&target.space.guid, yaml).await?;
        Ok::<_, Error>((same, (begun, started.elapsed().saturating_sub(begun))))
    };
    let first = scanned.first().map(|scanned| hash_files(cx, &target, scanned));
    let (applied, first) = tokio::join!(apply, async {
        match first {
            Some(first) => Some(first.await),
            None => None,
        }
    });
    let (same, manifest_time) = applied?;
    let mut first = first;
    let intent = Intent {
        target,
        plan,
        fingerprint,
        same,
        manifest_time,
    };
    let mut pushed = Vec::new();
    for scanned in scanned {
        let (hashed, started) = match first.take() {
            Some(hashed) => (hashed?, started),
            None => {
                let started = Instant::now();
                (hash_files(cx, &intent.target, &scanned).await?, started)
            }
        };
        pushed.push(push_one(cx, &intent, scanned, hashed, started).await?);
        cx.set_in_flight(None);
    }
    Ok(pushed)
}

/// The digests of an app's files, with the time that it took.
async fn hash_files(cx: &Cx, target: &Target, scanned: &Scanned) -> Result<(Hashed, Duration), Error> {
    if scanned.entry.image().is_some() {
        return Ok((Hashed::default(), Duration::ZERO));
    }
    let phase = cx.ui.phase(
        "hash",
        &format!("{} files of {}", scanned.tree.files.len(), scanned.entry.name),
    );
    let (files, cache, root) = (
        scanned.tree.files.clone(),
        target.config.cache.clone(),
        scanned.entry.folder.clone(),
    );
    let hashed = blocking(move || hash::hash(&files, &cache, &root)).await?;
    let unread = if hashed.cached == 0 {
        String::new()
    } else {
        format!(", {} known unchanged", hashed.cached)
    };
    let files = format::count(scanned.tree.files.len(), "file", "files");
    let took = phase.done(&format!("{files}, {}{unread}", format::bytes(scanned.tree.bytes())));
    Ok((hashed, took))
}

/// What all apps of a push share.
struct Intent {
    target: Target,
    plan: Plan,
    fingerprint: String,
    /// A rollout under way that an equal push began.
    same: Option<Deployment>,
    /// When the manifest was begun to be applied, and how long that took.
    manifest_time: (Duration, Duration),
}

async fn push_one(
    cx: &Cx,
    intent: &Intent,
    scanned: Scanned,
    (hashed, hash_time): (Hashed, Duration),
    started: Instant,
) -> Result<Pushed, Error> {
    let Intent { target, plan, .. } = intent;
    let client = &target.client;
    let app = target.app(&scanned.entry.name).await?;
    let mut track = Track::new(started);
    let (begun, took) = intent.manifest_time;
    track.local("manifest", begun, took);
    track.local("hash", begun, hash_time);
    // Opened before anything is begun: no event of it can be missed.
    let stream = client.stream(&app.guid, true, None).await?;
    let mut follow = Follow::new(
        cx.clone(),
        client.clone(),
        app.clone(),
        stream,
        track,
        started,
        plan.timeout,
    );
    let made = match &plan.droplet {
        Some(file) => of_file(cx, client, &app, file, &mut follow).await?,
        None => built(cx, intent, &app, &scanned, &hashed, &mut follow).await?,
    };
    let staged = &made.staged;
    let deployment = if plan.no_start {
        client.set_droplet(&app.guid, &staged.droplet).await?;
        None
    } else {
        Some(roll_out(cx, intent, &app, &staged.droplet, &mut follow).await?)
    };
    let view = view(target, &app.guid).await?;
    let track = follow.into_track();
    let total_ms = millis(started.elapsed());
    let phases = history::compare(
        &target.config,
        &app.guid,
        track.spans(),
        total_ms,
        deployment.is_some() && !plan.detach,
    );
    Ok(Pushed {
        app: view.app,
        urls: view.urls,
        deployment,
        build: made.build,
        droplet: made.staged.droplet,
        reused: made.staged.reused,
        files: scanned.tree.files.len() as u64,
        files_sent: made.files_sent,
        bytes_sent: made.bytes_sent,
        instances: view.instances,
        phases,
        total_ms,
    })
}

/// What is to be run, and what it took.
struct Made {
    staged: Staged,
    build: Option<String>,
    files_sent: u64,
    bytes_sent: u64,
}

/// Sends what is new of the app's files, and has them built.
async fn built(
    cx: &Cx,
    intent: &Intent,
    app: &App,
    scanned: &Scanned,
    hashed: &Hashed,
    follow: &mut Follow,
) -> Result<Made, Error> {
    let client = &intent.target.client;
    let sent = match scanned.entry.image() {
        Some(image) => send::image(client, app, &image, intent.plan.image_password.as_ref()).await?,
        None => send::send(cx, client, app, &scanned.tree, &hashed.digests, follow).await?,
    };
    let build = client.create_build(&sent.package, intent.plan.staging).await?;
    cx.set_in_flight(Some(InFlight {
        client: client.clone(),
        what: format!("staging {}", app.name),
        resume: format!("paas deploy attach {}", app.name),
        deployment: None,
    }));
    Ok(Made {
        staged: follow.staged(&build).await?,
        build: Some(build.guid),
        files_sent: sent.files,
        bytes_sent: sent.bytes,
    })
}

/// Sends a droplet that was built elsewhere.
async fn of_file(cx: &Cx, client: &Client, app: &App, path: &Path, follow: &mut Follow) -> Result<Made, Error> {
    let since = Instant::now();
    let unreadable = |error: std::io::Error| Error::file("read", path, &error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let phase = cx.ui.phase("upload", &path.display().to_string());
    let droplet = client.upload_droplet(&app.guid, &file).await?;
    let took = phase.done(&format!("one droplet, {}", format::bytes(bytes)));
    follow
        .track_mut()
        .local("upload", since.elapsed().saturating_sub(took), took);
    Ok(Made {
        staged: Staged {
            droplet: droplet.guid,
            reused: false,
        },
        build: None,
        files_sent: 1,
        bytes_sent: bytes,
    })
}

/// Rolls a droplet out, or watches the rollout of it that an equal push began.
async fn roll_out(
    cx: &Cx,
    intent: &Intent,
    app: &App,
    droplet: &str,
    follow: &mut Follow,
) -> Result<Deployment, Error> {
    let Target { client, config, .. } = &intent.target;
    let same = intent.same.as_ref().filter(|same| flight::rolls_out(same, droplet));
    let deployment = match same {
        Some(same) => {
            cx.ui.say("an equal rollout is under way; watching that one");
            same.clone()
        }
        None => {
            client
                .create_deployment(&app.guid, Of::Droplet(droplet), &intent.plan.strategy)
                .await?
        }
    };
    flight::note(config, &app.guid, &deployment.guid, &intent.fingerprint);
    super::deploy::watch(cx, client, app, &deployment, follow, intent.plan.detach).await
}

/// The app as it is now.
pub struct View {
    pub app: App,
    pub urls: Vec<String>,
    pub processes: Vec<Process>,
    /// Of the web process.
    pub instances: Vec<Instance>,
}

/// Asks for the app as it is now.
///
/// # Errors
/// Where it can't be asked for.
pub async fn view(target: &Target, app: &str) -> Result<View, Error> {
    let client = &target.client;
    let (found, routes, processes, platform) = tokio::try_join!(
        client.app_by_guid(app),
        client.app_routes(app),
        client.processes(app),
        client.platform()
    )?;
    let urls = routes
        .iter()
        .map(|route| super::routes::url(route, platform, client.api()))
        .collect();
    let web = processes.iter().find(|process| process.kind == "web");
    let instances = match web {
        Some(web) => client.stats(&web.guid).await?,
        None => Vec::new(),
    };
    Ok(View {
        app: found,
        urls,
        processes,
        instances,
    })
}

/// Goes on with a staging that an earlier push began: waits for it, then rolls its droplet out.
///
/// # Errors
/// As the push itself.
pub async fn attach(cx: &Cx, target: &Target, app: &App, timeout: Duration) -> Result<Deployment, Error> {
    let client = &target.client;
    let stream = client.stream(&app.guid, true, None).await?;
    let started = Instant::now();
    let track = Track::new(started);
    let mut follow = Follow::new(cx.clone(), client.clone(), app.clone(), stream, track, started, timeout);
    let (deployment, build) = tokio::try_join!(client.latest_deployment(&app.guid), client.latest_build(&app.guid))?;
    if let Some(deployment) = deployment.filter(|deployment| !deployment.status.is_final()) {
        return follow.deployed(&deployment, app.state == "STARTED").await;
    }
    let Some(build) = build else {
        return Err(Error::NothingInFlight { app: app.name.clone() });
    };
    let current = client.current_droplet(&app.guid).await?.map(|droplet| droplet.guid);
    match build.state.as_str() {
        "STAGING" => {}
        "STAGED" if guid_of(build.droplet.as_ref()) != current.as_deref() => {}
        _ => return Err(Error::NothingInFlight { app: app.name.clone() }),
    }
    let staged = follow.staged(&build).await?;
    let (of, strategy) = (Of::Droplet(&staged.droplet), Strategy::default());
    super::deploy::roll_out(cx, client, app, of, &strategy, &mut follow, false).await
}

/// Runs blocking work beside the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::File {
            operation: "read",
            path: PathBuf::from("the app"),
            detail: error.to_string(),
        })
    })
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
