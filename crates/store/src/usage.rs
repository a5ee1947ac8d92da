//! Usage events: written with the change that they tell of, in one sequence of commits.
//!
//! Of processes it is not the callers that tell: at the end of a transaction what the apps that it touched take is held
//! against what was told last. So no way to start, size or stop something can forget it.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged};
use crate::sql::{Arg, Query, Row, json};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, EventId, ProcessId, ServiceInstanceId, TaskId};
use model::limits::Limits;
use model::resource::{AppState, Build, BuildState, ServiceInstance, Task};
use model::staging::UsedBuildpack;
use model::usage::{self, AppUsage, Change, Instance, Named, OfOrg, Running, ServiceUsage, Typed};
use model::work::Owner;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Which of the two sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageKind {
    App,
    Service,
}

impl UsageKind {
    const fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Service => "service",
        }
    }
}

/// A usage event.
#[derive(Debug, Clone)]
pub struct UsageEvent {
    pub id: EventId,
    /// An [`AppUsage`] or a [`ServiceUsage`], as it travels.
    pub data: serde_json::Value,
    pub created_at: Timestamp,
}

/// Which events a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    pub ids: Option<Vec<EventId>>,
    /// Only those after this number.
    pub after: Option<i64>,
    /// Of services: of which types their instances are.
    pub subjects: Option<Vec<String>>,
    pub common: Common,
}

/// One before it has its place in the sequence.
pub(crate) struct NewUsage {
    kind: UsageKind,
    subject: String,
    data: String,
    at: Option<Timestamp>,
}

impl NewUsage {
    fn app(usage: &AppUsage, at: Option<Timestamp>) -> Result<Self> {
        Self::new(UsageKind::App, usage.state.current.clone(), usage, at)
    }

    fn new(kind: UsageKind, subject: String, data: &impl Serialize, at: Option<Timestamp>) -> Result<Self> {
        Ok(Self {
            kind,
            subject,
            data: json(data)?,
            at,
        })
    }
}

const EVENT: &str = "t.sequence, t.id, t.data, t.created_at";
const MINE: &str = "user_provided_service_instance";

fn event(_: &Db, row: &Row) -> Result<UsageEvent> {
    Ok(UsageEvent {
        id: row.id("id")?,
        data: row.json("data")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// An event of this kind by id.
    pub async fn usage_event_fetch(&self, kind: UsageKind, id: EventId) -> Result<Option<UsageEvent>> {
        let query = Query::new("usage_event_fetch", id, "")
            .push(&format!("SELECT {EVENT} FROM usage_events t WHERE t.id = "))
            .push_arg(id)
            .push(" AND t.kind = ")
            .push_arg(kind.word());
        self.find(query, event).await
    }

    /// The number in the sequence of an event of this kind.
    pub async fn usage_event_number(&self, kind: UsageKind, id: EventId) -> Result<Option<i64>> {
        let query = Query::new(
            "usage_event_number",
            id,
            "SELECT sequence FROM usage_events WHERE id = $1 AND kind = $2",
        )
        .arg(id)
        .arg(kind.word());
        self.find(query, |_, row| row.get("sequence")).await
    }

    /// Events of this kind, in their order.
    pub async fn usage_event_list(
        &self,
        kind: UsageKind,
        filter: &UsageFilter,
        order: Order,
        page: Page,
    ) -> Result<Paged<UsageEvent>> {
        let mut query = Query::new("usage_event_list", kind.word(), "FROM usage_events t WHERE t.kind = $1")
            .arg(kind.word())
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.subject", filter.subjects.as_deref());
        if let Some(after) = filter.after {
            query = query.push(" AND t.sequence > ").push_arg(after);
        }
        let order = if order.descending {
            "t.sequence DESC"
        } else {
            "t.sequence"
        };
        let query = self.narrowed(query, &filter.common, Has::OnlyCreation);
        self.list(EVENT, query, order, page, event).await
    }

    /// What the processes of these apps take, of those that run; of all apps where none are named.
    async fn running(&self, apps: Option<&[AppId]>) -> Result<BTreeMap<ProcessId, (Running, Timestamp)>> {
        let mut query = Query::new("usage_running", "apps", "").push(
            "SELECT p.id, p.app_id, p.type, p.instances, p.limits, p.updated_at, a.updated_at AS app_updated_at, a.name, a.space_id, s.name AS space_name, s.org_id, \
             d.buildpacks FROM processes p JOIN apps a ON a.id = p.app_id JOIN spaces s ON s.id = a.space_id \
             LEFT JOIN droplets d ON d.id = a.droplet_id WHERE a.state = ",
        );
        query = query.push_arg(crate::sql::word(&AppState::Started)?);
        if let Some(apps) = apps {
            query = query.and_in("p.app_id", apps.iter().copied());
        }
        let since = |row: &Row| Ok(row.time("updated_at")?.max(row.time("app_updated_at")?));
        let all = self.map(query, |_, row| Ok((running(row)?, since(row)?))).await?;
        Ok(all.into_iter().map(|one| (one.0.process, one)).collect())
    }

    /// What was told last.
    async fn told(&self, apps: &[AppId]) -> Result<BTreeMap<ProcessId, Running>> {
        let query = Query::new("usage_told", apps.len(), "SELECT data FROM process_usage WHERE 1 = 1")
            .and_in("app_id", apps.iter().copied());
        let all = self.map(query, |_, row| row.json::<Running>("data")).await?;
        Ok(all.into_iter().map(|one| (one.process, one)).collect())
    }

    /// What is new of these apps' processes; from here on it counts as told.
    pub(crate) async fn usage_news(&self, apps: &BTreeSet<AppId>) -> Result<Vec<NewUsage>> {
        let apps: Vec<AppId> = apps.iter().copied().collect();
        let mut news = Vec::new();
        for apps in apps.chunks(self.batch(1)) {
            let (told, now) = (self.told(apps).await?, self.running(Some(apps)).await?);
            let both: BTreeSet<ProcessId> = told.keys().chain(now.keys()).copied().collect();
            for process in both {
                let (before, now) = (told.get(&process), now.get(&process));
                let at = now.map(|(_, since)| *since);
                let now = now.map(|(running, _)| running);
                if let Some(usage) = usage::news(before, now) {
                    news.push(NewUsage::app(&usage, at)?);
                }
                // Also what is only named otherwise: its end is told by its name of then.
                if before != now {
                    self.usage_tell(process, now).await?;
                }
            }
        }
        Ok(news)
    }

    async fn usage_tell(&self, process: ProcessId, now: Option<&Running>) -> Result<()> {
        let query = match (now, now.and_then(|now| now.app.guid)) {
            (Some(now), Some(app)) => Query::new(
                "usage_tell",
                process,
                "INSERT INTO process_usage (process_id, app_id, data) VALUES ($1, $2, $3) \
                 ON CONFLICT (process_id) DO UPDATE SET data = excluded.data",
            )
            .arg(process)
            .arg(app)
            .arg(json(now)?),
            _ => Query::new("usage_tell", process, "DELETE FROM process_usage WHERE process_id = $1").arg(process),
        };
        self.execute(query).await.map(drop)
    }

    /// Takes the next numbers and writes the events; what has no time of its own happened at `at`.
    pub(crate) async fn usage_insert(&self, events: &[NewUsage], at: Timestamp) -> Result<()> {
        let Ok(count) = i64::try_from(events.len()) else {
            return Ok(());
        };
        if count == 0 {
            return Ok(());
        }
        let mut sequence = self.numbers("usage_events", count).await?;
        for batch in events.chunks(self.batch(6)) {
            let mut rows: Vec<Vec<Arg>> = Vec::with_capacity(batch.len());
            for event in batch {
                sequence += 1;
                rows.push(vec![
                    sequence.into(),
                    EventId(Uuid::now_v7()).into(),
                    event.kind.word().into(),
                    event.subject.as_str().into(),
                    event.data.as_str().into(),
                    event.at.unwrap_or(at).into(),
                ]);
            }
            let query = Query::new(
                "usage_insert",
                count,
                "INSERT INTO usage_events (sequence, id, kind, subject, data, created_at) VALUES ",
            )
            .push_rows(rows);
            self.execute(query).await?;
        }
        Ok(())
    }
}

fn running(row: &Row) -> Result<Running> {
    let limits: Limits = row.json("limits")?;
    let used: Option<Vec<UsedBuildpack>> = row.json_opt("buildpacks")?;
    Ok(Running {
        process: row.id("id")?,
        process_type: row.text("type")?,
        app: Named::of(row.id("app_id")?, row.text("name")?),
        space: Named::of(row.id("space_id")?, row.text("space_name")?),
        organization: OfOrg {
            guid: row.id("org_id")?,
        },
        buildpack: buildpack(used.unwrap_or_default().pop().map(|used| used.name)),
        memory_mb: limits.memory_mb,
        instances: row.int("instances")?,
    })
}

fn buildpack(name: Option<String>) -> Named<String> {
    Named { guid: None, name }
}

/// A use that is not a process's.
fn once(owner: Owner, state: &str, previous: &str, memory_mb: u32) -> AppUsage {
    let same = |value: u32| Change {
        current: value,
        previous: value,
    };
    AppUsage {
        state: Change {
            current: state.to_owned(),
            previous: previous.to_owned(),
        },
        app: Named::of(owner.app, owner.app_name.to_string()),
        process: Typed { guid: None, kind: None },
        space: Named::of(owner.space, owner.space_name),
        organization: OfOrg { guid: owner.org },
        buildpack: Named::none(),
        task: Named::none(),
        memory_in_mb_per_instance: same(memory_mb),
        instance_count: same(1),
    }
}

impl Tx {
    /// A task began or ended; at no time of its own where it went with its app.
    pub(crate) async fn usage_of_task(&self, task: &Task, started: bool, at: Option<Timestamp>) -> Result<()> {
        let Some(owner) = self.app_owner(task.app).await? else {
            return Ok(());
        };
        let (state, previous) = if started {
            ("TASK_STARTED", "PENDING")
        } else {
            ("TASK_STOPPED", "RUNNING")
        };
        let mut usage = once(owner, state, previous, task.limits.memory_mb);
        usage.task = Named::<TaskId>::of(task.id, task.name.clone());
        self.usage(NewUsage::app(&usage, at)?);
        Ok(())
    }

    /// A build began or ended, as [`Tx::usage_of_task`].
    pub(crate) async fn usage_of_build(&self, build: &Build, at: Option<Timestamp>) -> Result<()> {
        let Some(owner) = self.app_owner(build.app).await? else {
            return Ok(());
        };
        let named = buildpack(build.buildpacks.first().cloned());
        let tell = |state: &str, previous: &str| -> Result<()> {
            let mut usage = once(owner.clone(), state, previous, build.limits.memory_mb);
            usage.buildpack = named.clone();
            self.usage(NewUsage::app(&usage, at)?);
            Ok(())
        };
        match build.state {
            BuildState::Staging => tell("STAGING_STARTED", "STAGING"),
            BuildState::Failed => tell("STAGING_STOPPED", "STAGING"),
            BuildState::Staged => {
                tell("STAGING_STOPPED", "STAGING")?;
                tell("BUILDPACK_SET", "STAGING")
            }
        }
    }

    /// What goes with an app: its tasks and builds that are not over.
    pub(crate) async fn usage_of_leaving(&self, app: AppId) -> Result<()> {
        for task in self.tasks_live().await?.into_iter().filter(|task| task.app == app) {
            self.usage_of_task(&task, false, None).await?;
        }
        for pending in self.builds_pending().await?.into_iter().filter(|one| one.app.id == app) {
            let mut build = pending.build;
            build.state = BuildState::Failed;
            self.usage_of_build(&build, None).await?;
        }
        Ok(())
    }

    /// A service instance of users is `CREATED`, `UPDATED` or `DELETED`.
    pub(crate) async fn usage_of_service(&self, instance: &ServiceInstance, state: &str) -> Result<()> {
        let Some(space) = self.space_fetch(instance.space).await? else {
            return Ok(());
        };
        let usage = ServiceUsage {
            state: state.to_owned(),
            space: Named::of(space.id, space.name.to_string()),
            organization: OfOrg { guid: space.org },
            service_instance: Instance {
                guid: instance.id,
                name: instance.name.clone(),
                kind: MINE.to_owned(),
            },
            service_plan: Named::none(),
            service_offering: Named::none(),
            service_broker: Named::none(),
        };
        let at = Some(instance.updated_at).filter(|_| state != "DELETED");
        self.usage(NewUsage::new(UsageKind::Service, MINE.to_owned(), &usage, at)?);
        Ok(())
    }

    /// Forgets all events of this kind, and tells of everything that there is.
    pub async fn usage_begin_anew(&self, kind: UsageKind, now: Timestamp) -> Result<()> {
        let query = Query::new(
            "usage_begin_anew",
            kind.word(),
            "DELETE FROM usage_events WHERE kind = $1",
        );
        self.execute(query.arg(kind.word())).await?;
        match kind {
            UsageKind::App => {
                let query = Query::new("usage_begin_anew", "told", "DELETE FROM process_usage");
                self.execute(query).await?;
                for (process, (running, _)) in self.running(None).await? {
                    if let Some(usage) = usage::anew(&running) {
                        self.usage(NewUsage::app(&usage, Some(now))?);
                    }
                    self.usage_tell(process, Some(&running)).await?;
                }
            }
            UsageKind::Service => {
                let query = Query::new(
                    "usage_begin_anew",
                    "services",
                    "SELECT id FROM service_instances ORDER BY id",
                );
                for id in self.map(query, |_, row| row.id::<ServiceInstanceId>("id")).await? {
                    if let Some(mut instance) = self.service_fetch(id).await? {
                        instance.updated_at = now;
                        self.usage_of_service(&instance, "CREATED").await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes events from before `before`, but the newest of each kind: who reads them goes on from there.
    pub async fn usage_prune(&self, before: Timestamp) -> Result<u64> {
        let query = Query::new(
            "usage_prune",
            "old usage",
            "DELETE FROM usage_events WHERE created_at < $1 \
             AND sequence NOT IN (SELECT max(sequence) FROM usage_events GROUP BY kind)",
        )
        .arg(before);
        self.execute(query).await
    }
}
