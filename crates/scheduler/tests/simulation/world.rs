//! The simulated world: what the database holds, the cells, the routers, and the queue of what happens next.

use crate::cell::FakeCell;
use crate::rng::Rng;
use crate::router::FakeRouter;
use model::Timestamp;
use model::canary::Canary;
use model::id::{DeploymentId, ProcessId, VersionId, WorkId};
use model::name::StackName;
use model::work::{Wanted, WorkState};
use scheduler::{Deployment, History, Job, Needs, Policy, Process, Slot};
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;
use uuid::Uuid;

/// How instances of a version behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Good,
    CrashEarly,
    NeverHealthy,
    Unstartable,
}

/// A row of the work table.
#[derive(Debug, Clone)]
pub struct Row {
    pub slot: Slot,
    pub cell: usize,
    pub memory_mb: u32,
    pub wanted: Wanted,
    pub wanted_since: Timestamp,
    pub state: WorkState,
    pub routable: bool,
    pub healthy_since: Option<Timestamp>,
    pub entered: Option<u64>,
    pub left: u64,
    pub created_at: Timestamp,
}

/// What may happen.
#[derive(Debug, Clone)]
pub enum Event {
    Plan,
    Step {
        cell: usize,
        work: WorkId,
        generation: u64,
    },
    Heartbeat {
        cell: usize,
    },
    Assign {
        cell: usize,
        revision: u64,
        set: Vec<(WorkId, Wanted)>,
    },
    Table {
        router: usize,
        revision: u64,
        set: BTreeSet<WorkId>,
    },
    Ack {
        router: usize,
        revision: u64,
        draining: BTreeSet<WorkId>,
    },
    RouterBeat {
        router: usize,
    },
    Request {
        router: usize,
    },
    RequestDone {
        router: usize,
        work: WorkId,
    },
    User,
    Fault,
    Heal {
        cell: usize,
    },
    HealRouter {
        router: usize,
    },
    Settle,
}

/// What a run went through.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    pub deployed: u32,
    pub canceled: u32,
    pub paused: u32,
    pub continued: u32,
    pub crashes: u32,
    pub lost: u32,
    pub settled: u32,
    pub plans: u32,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.deployed += other.deployed;
        self.canceled += other.canceled;
        self.paused += other.paused;
        self.continued += other.continued;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.settled += other.settled;
        self.plans += other.plans;
    }
}

pub struct World {
    pub now: Timestamp,
    pub rng: Rng,
    pub queue: BTreeMap<(Timestamp, u64), Event>,
    pub sequence: u64,
    pub next_id: u128,
    pub policy: Policy,
    /// No crash of a healthy instance, no partition: no request may fail.
    pub strict: bool,
    pub settling: bool,
    pub processes: Vec<Process>,
    pub started: Vec<bool>,
    pub scale: Vec<u32>,
    /// Whether requests to the process were answered since it was last started.
    pub up: BTreeSet<ProcessId>,
    pub fates: BTreeMap<VersionId, Fate>,
    pub deployments: Vec<Deployment>,
    pub canaries: BTreeMap<DeploymentId, Canary>,
    pub jobs: Vec<Job>,
    pub rows: BTreeMap<WorkId, Row>,
    pub history: BTreeMap<(ProcessId, VersionId), History>,
    pub cells: Vec<FakeCell>,
    pub routers: Vec<FakeRouter>,
    pub table: BTreeSet<WorkId>,
    pub revision: u64,
    pub plan_at: Option<Timestamp>,
    pub trace: Vec<String>,
    pub totals: Totals,
}

pub const LEASE: Duration = Duration::seconds(5);
const CHAOS: Duration = Duration::seconds(90);
const SETTLE: Duration = Duration::seconds(900);

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let cells = usize::try_from(rng.range(1, 5)).expect("small");
        // Small ones are full in the chaos, and hold each app twice at rest.
        let memory = if rng.chance(300) { 1536 } else { 8192 };
        let now = Timestamp::UNIX_EPOCH + Duration::days(20_000);
        let mut world = Self {
            now,
            strict: seed.is_multiple_of(3),
            rng,
            queue: BTreeMap::new(),
            sequence: 0,
            next_id: 1,
            policy: Policy::default(),
            settling: false,
            processes: Vec::new(),
            started: Vec::new(),
            scale: Vec::new(),
            up: BTreeSet::new(),
            fates: BTreeMap::new(),
            deployments: Vec::new(),
            canaries: BTreeMap::new(),
            jobs: Vec::new(),
            rows: BTreeMap::new(),
            history: BTreeMap::new(),
            cells: Vec::new(),
            routers: Vec::new(),
            table: BTreeSet::new(),
            revision: 0,
            plan_at: None,
            trace: Vec::new(),
            totals: Totals::default(),
        };
        for index in 0..cells {
            let id = world.id();
            world.cells.push(FakeCell::new(id, index, memory, now + LEASE));
            world.after(10 + index as u64, Event::Heartbeat { cell: index });
        }
        for router in 0..usize::try_from(world.rng.range(1, 3)).expect("small") {
            world.routers.push(FakeRouter::new(now + LEASE));
            world.after(5, Event::RouterBeat { router });
            world.after(50, Event::Request { router });
        }
        for index in 0..world.rng.range(1, 4) {
            world.add_process(index != 2);
        }
        world.after(1, Event::User);
        world.after(3000, Event::Fault);
        world.schedule(now + CHAOS, Event::Settle);
        world
    }

    fn add_process(&mut self, routable: bool) {
        let process = Process {
            id: ProcessId(self.id()),
            app: model::id::AppId(self.id()),
            routable,
            instances: 0,
            version: None,
            needs: BTreeMap::new(),
        };
        self.processes.push(process);
        self.started.push(false);
        self.scale.push(1);
    }

    pub fn id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    pub fn needs(memory_mb: u32) -> Needs {
        Needs {
            memory_mb,
            disk_mb: 64,
            stack: stack(),
            segment: None,
            layers: Vec::new(),
        }
    }

    pub fn schedule(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        let at = self.now + Duration::milliseconds(i64::try_from(ms).expect("small"));
        self.schedule(at, event);
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let at = (self.now - Timestamp::UNIX_EPOCH - Duration::days(20_000)).whole_milliseconds();
        let text = text();
        self.trace.push(format!("{at:>7} ms  {text}"));
    }

    /// Runs to the end: chaos, then rest.
    pub fn run(&mut self) -> Result<(), String> {
        let end = self.now + CHAOS + SETTLE;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            self.handle(event)?;
            self.check_always()?;
            if self.settling && self.at_rest() {
                return self.check_rest();
            }
        }
        self.check_rest()
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Plan => self.plan_event()?,
            Event::Step { cell, work, generation } => self.cell_step(cell, work, generation),
            Event::Heartbeat { cell } => self.heartbeat(cell),
            Event::Assign { cell, revision, set } => self.assign(cell, revision, &set)?,
            Event::Table { router, revision, set } => self.router_table(router, revision, set),
            Event::Ack {
                router,
                revision,
                draining,
            } => self.router_ack(router, revision, draining),
            Event::RouterBeat { router } => self.router_beat(router),
            Event::Request { router } => self.request(router),
            Event::RequestDone { router, work } => self.request_done(router, work),
            Event::User => self.user(),
            Event::Fault => self.fault(),
            Event::Heal { cell } => self.heal(cell),
            Event::HealRouter { router } => self.routers[router].connected = true,
            Event::Settle => self.settle(),
        }
        Ok(())
    }

    pub fn process_of(&self, slot: Slot) -> Option<&Process> {
        let Slot::Instance { process, .. } = slot else {
            return None;
        };
        self.processes.iter().find(|candidate| candidate.id == process)
    }
}

pub fn stack() -> StackName {
    "base".parse().expect("a stack name")
}
