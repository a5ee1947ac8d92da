//! A fake cell that speaks the real feeds. It runs nothing: work moves by the product's state machine, at once.

use crate::platform::{TOKEN, now};
use api::cell::{self, Down, Exec, LogBatch, Registered, Report};
use futures_util::StreamExt as _;
use model::id::{CellId, WorkId};
use model::resource::CellInfo;
use model::security::Policies;
use model::staging::{BuildResult, DropletLayer, LayerKind, PhaseTime};
use model::work::*;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

#[derive(Clone)]
struct Held {
    assignment: Assignment,
    state: WorkState,
    address: Ipv4Addr,
    since: model::Timestamp,
}

/// What the cell holds, for tests to look at and to meddle with.
#[derive(Default)]
pub struct Inside {
    held: BTreeMap<WorkId, Held>,
    changed: Vec<WorkId>,
    /// Work that the cell was told to stop, in order.
    pub stopped: Vec<WorkId>,
    /// Every word about where sandboxes may connect to.
    pub policies: Vec<Policies>,
    /// Builds don't end by themselves while set.
    pub hold_builds: bool,
    revision: u64,
    full: bool,
    addresses: u8,
}

pub struct FakeCell {
    pub info: CellInfo,
    url: String,
    pub inside: Arc<Mutex<Inside>>,
    wake: Arc<Notify>,
    /// New policies were heard.
    pub heard: Arc<Notify>,
    pub execs: mpsc::Receiver<Exec>,
    exec_sender: mpsc::Sender<Exec>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl FakeCell {
    pub fn new(url: &str, name: &str, memory_mb: u64) -> Self {
        let (exec_sender, execs) = mpsc::channel(8);
        Self {
            info: CellInfo {
                id: CellId(Uuid::now_v7()),
                name: name.to_owned(),
                zone: name.to_owned(),
                tags: Vec::new(),
                stacks: vec!["host".parse().expect("valid")],
                memory_mb,
                disk_mb: 100_000,
                cpus: 2,
                max_work: 250,
                isolation: Vec::new(),
                version: "1".to_owned(),
            },
            url: url.to_owned(),
            inside: Arc::default(),
            wake: Arc::default(),
            heard: Arc::default(),
            execs,
            exec_sender,
            task: None,
        }
    }

    /// Connects, and again whenever it is cut off.
    pub fn join(&mut self) {
        let agent = Agent {
            http: crate::platform::http(),
            url: self.url.clone(),
            info: self.info.clone(),
            inside: self.inside.clone(),
            wake: self.wake.clone(),
            heard: self.heard.clone(),
            execs: self.exec_sender.clone(),
        };
        self.task = Some(tokio::spawn(async move {
            loop {
                let _ = agent.run().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
    }

    /// Cut off: what it holds goes on, and nobody hears of it.
    pub fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// The host rebooted: it holds nothing.
    pub fn forget(&self) {
        self.inside.lock().held.clear();
    }

    pub fn running(&self) -> Vec<WorkId> {
        let inside = self.inside.lock();
        let running = inside.held.iter().filter(|(_, held)| held.state == WorkState::Running);
        running.map(|(work, _)| *work).collect()
    }

    /// Work ends by itself.
    pub fn end(&self, work: WorkId, cause: Cause, build: Option<BuildResult>) {
        let outcome = Outcome {
            cause,
            at: now(),
            build: build.map(Box::new),
        };
        self.inside.lock().step(work, WorkEvent::Ended(outcome));
        self.wake.notify_one();
    }

    /// Work that it holds and that is a build.
    pub fn builds(&self) -> Vec<WorkId> {
        let inside = self.inside.lock();
        let builds = inside
            .held
            .iter()
            .filter(|(_, held)| matches!(held.assignment.spec.kind, WorkKind::Build(_)));
        builds
            .filter(|(_, held)| !held.state.is_final())
            .map(|(work, _)| *work)
            .collect()
    }

    pub async fn ship(&self, batch: &LogBatch) -> u16 {
        let url = format!("{}{}", self.url, cell::path_for(cell::LOGS, self.info.id));
        let sent = crate::platform::http()
            .post(url)
            .bearer_auth(TOKEN)
            .json(batch)
            .send()
            .await;
        sent.expect("sent").status().as_u16()
    }
}

impl Drop for FakeCell {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Inside {
    fn step(&mut self, work: WorkId, event: WorkEvent) {
        if let Some(held) = self.held.get_mut(&work) {
            held.state = held.state.clone().step(event).expect("legal");
            held.since = now();
            self.changed.push(work);
        }
    }

    fn reconcile(&mut self, revision: u64, set: Vec<Assignment>) {
        self.revision = revision;
        let named: HashMap<WorkId, Assignment> = set.into_iter().map(|entry| (entry.work, entry)).collect();
        let unnamed: Vec<WorkId> = self
            .held
            .keys()
            .filter(|work| !named.contains_key(work))
            .copied()
            .collect();
        for work in unnamed {
            if !self.held[&work].state.is_final() {
                self.stopped.push(work);
            }
            self.held.remove(&work);
        }
        for (work, assignment) in named {
            let wanted = assignment.wanted;
            if !self.held.contains_key(&work) {
                self.take_over(work, assignment);
            }
            if wanted == Wanted::Stop && !self.held[&work].state.is_final() {
                self.stopped.push(work);
                self.step(work, WorkEvent::Stop);
                self.step(work, WorkEvent::Ended(outcome(Cause::Stopped { killed: false })));
            }
        }
    }

    fn take_over(&mut self, work: WorkId, assignment: Assignment) {
        self.addresses = self.addresses.wrapping_add(1);
        let behaviour = match &assignment.spec.kind {
            WorkKind::Instance(instance) => instance.command.clone().unwrap_or_default(),
            WorkKind::Build(_) => "build".to_owned(),
            WorkKind::Task(_) => "task".to_owned(),
        };
        let held = Held {
            address: Ipv4Addr::new(10, 180, 0, self.addresses),
            state: WorkState::Placed,
            since: now(),
            assignment,
        };
        self.held.insert(work, held);
        self.step(work, WorkEvent::Prepare);
        self.step(work, WorkEvent::Started);
        match behaviour.as_str() {
            "crash" => self.step(work, WorkEvent::Ended(outcome(Cause::Exited { code: 3 }))),
            "hang" => {
                let detail = "connection refused on port 8080".to_owned();
                self.step(work, WorkEvent::Ended(outcome(Cause::StartTimeout { detail })));
            }
            "build" if !self.hold_builds => {
                self.step(work, WorkEvent::Healthy);
                let mut outcome = outcome(Cause::Exited { code: 0 });
                outcome.build = Some(Box::new(built()));
                self.step(work, WorkEvent::Ended(outcome));
            }
            "task" => {
                self.step(work, WorkEvent::Healthy);
                self.step(work, WorkEvent::Ended(outcome(Cause::Exited { code: 0 })));
            }
            _ => self.step(work, WorkEvent::Healthy),
        }
    }

    fn report(&mut self) -> Report {
        let full = std::mem::take(&mut self.full);
        let changed = std::mem::take(&mut self.changed);
        let observations = self
            .held
            .iter()
            .filter(|(work, _)| full || changed.contains(work))
            .map(|(work, held)| Observation {
                work: *work,
                epoch: held.assignment.epoch,
                state: held.state.clone(),
                routable: held.state == WorkState::Running,
                address: Some(held.address),
                since: held.since,
                phases: vec![PhaseTime {
                    name: "unpack".to_owned(),
                    duration_ms: 5,
                }],
            });
        Report {
            revision: self.revision,
            full,
            observations: observations.collect(),
            stats: Vec::new(),
        }
    }
}

fn outcome(cause: Cause) -> Outcome {
    Outcome {
        cause,
        at: now(),
        build: None,
    }
}

/// What a build that succeeds makes.
pub fn built() -> BuildResult {
    BuildResult {
        layers: vec![DropletLayer {
            digest: model::Digest::from_sha256([1; 32]),
            size_bytes: 10,
            kind: LayerKind::App,
            name: "app".to_owned(),
            file: Some("1.tar.zst".to_owned()),
        }],
        phases: vec![PhaseTime {
            name: "detect".to_owned(),
            duration_ms: 3,
        }],
        ..BuildResult::default()
    }
}

/// The cell's connection.
struct Agent {
    http: reqwest::Client,
    url: String,
    info: CellInfo,
    inside: Arc<Mutex<Inside>>,
    wake: Arc<Notify>,
    heard: Arc<Notify>,
    execs: mpsc::Sender<Exec>,
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Agent {
    fn request(&self, method: reqwest::Method, route: api::Route) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.url, cell::path_for(route, self.info.id));
        self.http.request(method, url).bearer_auth(TOKEN)
    }

    async fn run(&self) -> Result<(), Broken> {
        let register = self.request(reqwest::Method::POST, cell::REGISTER).json(&self.info);
        let registered: Registered = register.send().await?.error_for_status()?.json().await?;
        self.inside.lock().full = true;
        self.post().await?;
        let feed = self
            .request(reqwest::Method::GET, cell::FEED)
            .send()
            .await?
            .error_for_status()?;
        let mut bytes = feed.bytes_stream();
        let mut buffer = Vec::new();
        let mut beat = tokio::time::interval(Duration::from_millis(registered.heartbeat_ms));
        loop {
            tokio::select! {
                chunk = bytes.next() => {
                    buffer.extend_from_slice(&chunk.ok_or("the feed ended")??);
                    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = buffer.drain(..=end).collect();
                        match serde_json::from_slice(&line)? {
                            Down::Assignments { revision, assignments } => {
                                self.inside.lock().reconcile(revision, assignments);
                                self.post().await?;
                            }
                            Down::Exec(exec) => self.execs.send(exec).await?,
                            Down::Policies { policies } => {
                                self.inside.lock().policies.push(policies);
                                self.heard.notify_one();
                            }
                            Down::Ping => {}
                        }
                    }
                }
                () = self.wake.notified() => self.post().await?,
                _ = beat.tick() => self.post().await?,
            }
        }
    }

    async fn post(&self) -> Result<(), Broken> {
        let report = self.inside.lock().report();
        let sent = self
            .request(reqwest::Method::POST, cell::REPORT)
            .json(&report)
            .send()
            .await;
        let accepted = sent.and_then(reqwest::Response::error_for_status);
        if let Err(error) = accepted {
            self.inside.lock().full = true;
            return Err(error.into());
        }
        Ok(())
    }
}
