//! Tasks: one-off runs of a droplet.

use crate::common::{Carrier, Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json, word};
use crate::tx::Tx;
use model::id::{AppId, DropletId, OrgId, SpaceId, TaskId};
use model::resource::{Task, TaskState};

/// Which tasks a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    pub ids: Option<Vec<TaskId>>,
    pub apps: Option<Vec<AppId>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    pub droplets: Option<Vec<DropletId>>,
    pub names: Option<Vec<String>>,
    pub states: Option<Vec<TaskState>>,
    pub sequences: Option<Vec<u32>>,
    pub common: Common,
}

const TASK: &str = "t.id, t.app_id, t.sequence, t.name, t.command, t.droplet_id, t.limits, t.state, t.failure, \
                    t.metadata, t.created_at, t.updated_at";

fn task(_: &Db, row: &Row) -> Result<Task> {
    Ok(Task {
        id: row.id("id")?,
        app: row.id("app_id")?,
        sequence: row.int("sequence")?,
        name: row.text("name")?,
        command: row.text("command")?,
        droplet: row.id("droplet_id")?,
        limits: row.json("limits")?,
        state: row.word("state")?,
        failure: row.text_opt("failure")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A task by id.
    pub async fn task_fetch(&self, id: TaskId) -> Result<Option<Task>> {
        let query = Query::new("task_fetch", id, "")
            .push(&format!("SELECT {TASK} FROM tasks t WHERE t.id = "))
            .push_arg(id);
        self.find(query, task).await
    }

    /// Tasks of apps within `scope`.
    pub async fn task_list(&self, filter: &TaskFilter, scope: Scope, order: Order, page: Page) -> Result<Paged<Task>> {
        let query = Query::new(
            "task_list",
            "a list",
            "FROM tasks t JOIN apps a ON a.id = t.app_id JOIN spaces s ON s.id = a.space_id WHERE 1 = 1",
        );
        let query = scope
            .spaces(query, "a.space_id")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.app_id", filter.apps.as_deref())
            .and_in_some("a.space_id", filter.spaces.as_deref())
            .and_in_some("s.org_id", filter.orgs.as_deref())
            .and_in_some("t.droplet_id", filter.droplets.as_deref())
            .and_in_some("t.name", filter.names.as_deref())
            .and_words_some("t.state", filter.states.as_deref())?
            .and_in_some("t.sequence", filter.sequences.as_deref());
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(TASK, query, &order.sql(Some("t.name"), true), page, task)
            .await
    }

    /// Tasks that are not over.
    pub async fn tasks_live(&self) -> Result<Vec<Task>> {
        let query = Query::new("tasks_live", "all", "").push(&format!(
            "SELECT {TASK} FROM tasks t WHERE t.state IN ('PENDING', 'RUNNING', 'CANCELING') ORDER BY t.created_at"
        ));
        self.map(query, task).await
    }

    /// The number that the next task of an app gets. Lock the app first.
    pub async fn task_next_sequence(&self, app: AppId) -> Result<u32> {
        let query = Query::new(
            "task_next_sequence",
            app,
            "SELECT coalesce(max(sequence), 0) + 1 AS next FROM tasks WHERE app_id = $1",
        )
        .arg(app);
        self.one(query).await?.int("next")
    }
}

impl Tx {
    /// A new task. Taken: `task sequence`.
    pub async fn task_create(&self, task: &Task) -> Result<()> {
        let query = Query::new(
            "task_create",
            task.id,
            "INSERT INTO tasks (id, app_id, sequence, name, command, droplet_id, limits, state, failure, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .taken("task sequence")
        .arg(task.id)
        .arg(task.app)
        .arg(task.sequence)
        .arg(task.name.as_str())
        .arg(task.command.as_str())
        .arg(task.droplet)
        .arg(json(&task.limits)?)
        .arg(word(&task.state)?)
        .arg(task.failure.clone())
        .arg(task.created_at)
        .arg(task.updated_at);
        self.touch(Topic::Desired);
        self.execute(query).await?;
        self.usage_of_task(task, true, Some(task.created_at)).await?;
        self.metadata_keep(Carrier::Task, task.id.0, &task.metadata).await
    }

    /// State and failure as given, where the task is not over. False where it is.
    pub async fn task_step(&self, task: &Task) -> Result<bool> {
        let query = Query::new(
            "task_step",
            task.id,
            "UPDATE tasks SET state = $1, failure = $2, updated_at = $3 \
             WHERE id = $4 AND state IN ('PENDING', 'RUNNING', 'CANCELING')",
        )
        .arg(word(&task.state)?)
        .arg(task.failure.clone())
        .arg(task.updated_at)
        .arg(task.id);
        self.touch(Topic::Desired);
        let done = self.execute(query).await? > 0;
        if done && matches!(task.state, TaskState::Succeeded | TaskState::Failed) {
            self.usage_of_task(task, false, Some(task.updated_at)).await?;
        }
        Ok(done)
    }
}
