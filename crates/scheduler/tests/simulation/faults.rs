//! Users who scale, push, stop, cancel; faults that partition, reboot and crash; and the quiet at the end.

use crate::world::{Event, Fate, World};
use model::canary::Canary;
use model::id::{BuildId, DeploymentId, TaskId, VersionId, WorkId};
use model::work::{Cause, Outcome, Wanted, WorkEvent, WorkState};
use scheduler::{Deployment, Job, JobRef, Slot};

impl World {
    pub fn user(&mut self) {
        if self.settling {
            return;
        }
        let app = self.rng.index(self.processes.len());
        match self.rng.range(0, 26) {
            0..=5 => self.push(app, None),
            6..=8 => self.push_bad(app),
            9..=12 => {
                self.scale[app] = u32::try_from(self.rng.range(0, 6)).expect("small");
                self.rescale(app);
            }
            13 => {
                self.started[app] = false;
                self.rescale(app);
            }
            14 | 15 => {
                self.started[app] = true;
                self.rescale(app);
            }
            16 => self.cancel(app),
            17 | 18 => self.submit_job(),
            19..=24 => self.go_on(app),
            _ if !self.strict => self.restart_instance(),
            _ => {}
        }
        self.activate();
        let pause = if self.rng.chance(300) {
            self.rng.range(1, 200)
        } else {
            self.rng.range(500, 12_000)
        };
        self.after(pause, Event::User);
    }

    pub fn rescale(&mut self, app: usize) {
        self.processes[app].instances = if self.started[app] { self.scale[app] } else { 0 };
        if self.processes[app].instances == 0 {
            let id = self.processes[app].id;
            self.up.remove(&id);
            self.history.retain(|(process, _), _| *process != id);
        }
        let (instances, started) = (self.processes[app].instances, self.started[app]);
        self.note(|| format!("user: app {app} started={started} instances={instances}"));
    }

    fn push_bad(&mut self, app: usize) {
        let fate = match self.rng.range(0, 3) {
            0 => Fate::CrashEarly,
            1 => Fate::NeverHealthy,
            _ => Fate::Unstartable,
        };
        self.push(app, Some(fate));
    }

    /// A new version by a deployment, which supersedes the one under way.
    pub fn push(&mut self, app: usize, fate: Option<Fate>) {
        let version = VersionId(self.id());
        let memory = [64, 128, 256][self.rng.index(3)];
        self.fates.insert(version, fate.unwrap_or(Fate::Good));
        let id = DeploymentId(self.id());
        let process = &mut self.processes[app];
        let process_id = process.id;
        process.needs.insert(version, Self::needs(memory));
        let under_way = self
            .deployments
            .iter()
            .position(|deployment| deployment.process == process_id);
        let previous = match under_way {
            Some(position) => self.deployments.remove(position).previous,
            None => process.version,
        };
        let canary = if self.settling || self.rng.chance(600) {
            None
        } else {
            let mut weights: Vec<u8> = (0..self.rng.index(4))
                .map(|_| u8::try_from(self.rng.range(1, 101)).expect("small"))
                .collect();
            weights.sort_unstable();
            Some(Canary::new(weights))
        };
        let max_in_flight = u32::try_from(self.rng.range(1, 4)).expect("small");
        self.deployments.push(Deployment {
            id,
            process: process_id,
            version,
            previous,
            max_in_flight,
            canary: canary.as_ref().and_then(Canary::share),
            paused: false,
            canceling: false,
            created_at: self.now,
        });
        if let Some(canary) = canary {
            self.canaries.insert(id, canary);
        }
        self.note(|| format!("user: push app {app} {process_id} version {version} {fate:?} previous {previous:?}"));
        self.started[app] = true;
        self.rescale(app);
    }

    /// Lets a canary go on that waits.
    fn go_on(&mut self, app: usize) {
        let id = self.processes[app].id;
        let waiting = self
            .deployments
            .iter_mut()
            .find(|deployment| deployment.process == id && deployment.paused);
        if let Some(deployment) = waiting
            && let Some(canary) = self.canaries.get_mut(&deployment.id)
        {
            canary.step += 1;
            deployment.canary = canary.share();
            deployment.paused = false;
            let id = deployment.id;
            self.totals.continued += 1;
            self.note(|| format!("user: continue {id}"));
        }
    }

    fn cancel(&mut self, app: usize) {
        let id = self.processes[app].id;
        if let Some(deployment) = self.deployments.iter_mut().find(|deployment| deployment.process == id) {
            deployment.canceling = true;
            deployment.paused = false;
            let id = deployment.id;
            self.note(|| format!("user: cancel {id}"));
        }
    }

    fn submit_job(&mut self) {
        let id = self.id();
        let id = if self.rng.chance(500) {
            JobRef::Build(BuildId(id))
        } else {
            JobRef::Task(TaskId(id))
        };
        let job = Job {
            id,
            app: self.processes[0].app,
            needs: Self::needs(256),
            cancel: false,
            tries: Vec::new(),
            created_at: self.now,
        };
        self.jobs.push(job);
        if self.rng.chance(200) {
            let victim = self.rng.index(self.jobs.len());
            self.jobs[victim].cancel = true;
        }
    }

    /// As `DELETE /v3/processes/…/instances/…` does it.
    fn restart_instance(&mut self) {
        let works: Vec<WorkId> = self.table.iter().copied().collect();
        if works.is_empty() {
            return;
        }
        let work = works[self.rng.index(works.len())];
        if let Some(row) = self.rows.get_mut(&work) {
            row.wanted = Wanted::Drain;
            row.wanted_since = self.now;
            let cell = row.cell;
            self.note(|| format!("user: restart instance {work}"));
            self.publish();
            self.send_set(cell);
        }
    }

    pub fn fault(&mut self) {
        if self.settling || self.strict {
            return;
        }
        let cell = self.rng.index(self.cells.len());
        match self.rng.range(0, 10) {
            0..=2 => {
                let time = self.rng.range(500, 30_000);
                self.note(|| format!("fault: cell-{cell} is cut off for {time} ms"));
                self.cells[cell].connected = false;
                self.after(time, Event::Heal { cell });
            }
            3 => {
                self.note(|| format!("fault: the host of cell-{cell} reboots"));
                self.cells[cell].held.clear();
                self.cells[cell].connected = false;
                let time = self.rng.range(500, 20_000);
                self.after(time, Event::Heal { cell });
            }
            4 => self.cells[cell].cordoned = !self.cells[cell].cordoned,
            5 => {
                let router = self.rng.index(self.routers.len());
                self.note(|| format!("fault: router {router} is cut off"));
                self.routers[router].connected = false;
                let time = self.rng.range(500, 20_000);
                self.after(time, Event::HealRouter { router });
            }
            _ => self.crash_one(cell),
        }
        let pause = self.rng.range(200, 8000);
        self.after(pause, Event::Fault);
    }

    fn crash_one(&mut self, cell: usize) {
        let running: Vec<WorkId> = self.cells[cell]
            .held
            .iter()
            .filter(|(_, held)| held.state == WorkState::Running && matches!(held.slot, Slot::Instance { .. }))
            .map(|(work, _)| *work)
            .collect();
        if running.is_empty() {
            return;
        }
        let work = running[self.rng.index(running.len())];
        self.note(|| format!("fault: {work} crashes"));
        let cause = Cause::Exited { code: 1 };
        let at = self.now;
        self.move_on(cell, work, WorkEvent::Ended(Outcome { cause, at, build: None }));
        self.report(cell);
    }

    pub fn heal(&mut self, cell: usize) {
        self.note(|| format!("cell-{cell} is back"));
        self.cells[cell].connected = true;
        self.cells[cell].full = true;
        self.cells[cell].synced = false;
        self.send_set(cell);
        self.report(cell);
    }

    /// Faults and users rest; every app gets a version that works and room to run.
    pub fn settle(&mut self) {
        self.settling = true;
        self.note(|| "all rest".to_owned());
        for cell in 0..self.cells.len() {
            self.cells[cell].cordoned = false;
            self.heal(cell);
        }
        for router in 0..self.routers.len() {
            self.routers[router].connected = true;
        }
        for app in 0..self.processes.len() {
            self.scale[app] = self.scale[app].min(1);
            self.push(app, Some(Fate::Good));
        }
        self.activate();
    }
}
