//! Jobs: operations that a client asks after.

use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::sql::{Query, json, word};
use crate::tx::Tx;
use model::Timestamp;
use model::id::JobId;
use model::resource::{Job, JobError, JobState};

impl Db {
    /// A job by id.
    pub async fn job_fetch(&self, id: JobId) -> Result<Option<Job>> {
        let query = Query::new(
            "job_fetch",
            id,
            "SELECT id, operation, state, error, created_at, updated_at FROM jobs WHERE id = $1",
        )
        .arg(id);
        self.find(query, |_, row| {
            Ok(Job {
                id: row.id("id")?,
                operation: row.text("operation")?,
                state: row.word("state")?,
                error: row.json_opt("error")?,
                created_at: row.time("created_at")?,
                updated_at: row.time("updated_at")?,
            })
        })
        .await
    }
}

impl Tx {
    /// A new job, in whatever state it is.
    pub async fn job_create(&self, job: &Job) -> Result<()> {
        let query = Query::new(
            "job_create",
            job.id,
            "INSERT INTO jobs (id, operation, state, error, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .arg(job.id)
        .arg(job.operation.as_str())
        .arg(word(&job.state)?)
        .arg(job.error.as_ref().map(json).transpose()?)
        .arg(job.created_at)
        .arg(job.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Ends a job that is under way. False where it has ended already.
    pub async fn job_finish(&self, id: JobId, error: Option<&JobError>, now: Timestamp) -> Result<bool> {
        let state = if error.is_some() {
            JobState::Failed
        } else {
            JobState::Complete
        };
        let query = Query::new(
            "job_finish",
            id,
            "UPDATE jobs SET state = $1, error = $2, updated_at = $3 WHERE id = $4 AND state = 'PROCESSING'",
        )
        .arg(word(&state)?)
        .arg(error.map(json).transpose()?)
        .arg(now)
        .arg(id);
        self.touch(Topic::Events);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes jobs that ended before `before`.
    pub async fn jobs_prune(&self, before: Timestamp) -> Result<u64> {
        let query = Query::new(
            "jobs_prune",
            "old jobs",
            "DELETE FROM jobs WHERE state <> 'PROCESSING' AND updated_at < $1",
        )
        .arg(before);
        self.execute(query).await
    }
}
