//! How much of what was superseded is kept of each app. What is in use stays, whatever its age.

use crate::error::Result;
use crate::sql::Query;
use crate::tx::Tx;
use model::Timestamp;

/// How many are kept of each app, the newest first; versions are counted by process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub packages: u32,
    pub droplets: u32,
    pub builds: u32,
    pub deployments: u32,
    pub versions: u32,
}

/// `table` without its newest `keep` of each `owner`, without what is younger than `before`, and without `in_use`.
fn older(table: &'static str, owner: &str, keep: u32, before: Timestamp, in_use: &str) -> Query {
    Query::new("superseded_prune", table, "")
        .push(&format!("DELETE FROM {table} WHERE created_at < "))
        .push_arg(before)
        .push(&format!(
            " AND id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY {owner} ORDER BY created_at DESC, \
             id DESC) AS place FROM {table}) ranked WHERE place > "
        ))
        .push_arg(keep)
        .push(")")
        .push(in_use)
}

const VERSIONS_IN_USE: &str = " AND id NOT IN (SELECT version_id FROM processes WHERE version_id IS NOT NULL) \
     AND id NOT IN (SELECT version_id FROM deployments WHERE state IN ('DEPLOYING', 'PAUSED', 'CANCELING')) \
     AND id NOT IN (SELECT previous_version_id FROM deployments WHERE state IN ('DEPLOYING', 'PAUSED', 'CANCELING') \
     AND previous_version_id IS NOT NULL)";
const DROPLETS_IN_USE: &str = " AND id NOT IN (SELECT droplet_id FROM apps WHERE droplet_id IS NOT NULL) \
     AND id NOT IN (SELECT droplet_id FROM process_versions) \
     AND id NOT IN (SELECT droplet_id FROM tasks WHERE state IN ('PENDING', 'RUNNING', 'CANCELING'))";
const PACKAGES_IN_USE: &str = " AND id NOT IN (SELECT package_id FROM builds WHERE state = 'STAGING') \
     AND id NOT IN (SELECT d.package_id FROM droplets d JOIN apps a ON a.droplet_id = d.id \
     WHERE d.package_id IS NOT NULL)";

impl Tx {
    /// Removes what is superseded beyond `keep` and older than `before`; how many rows that were.
    pub async fn superseded_prune(&self, keep: &Retention, before: Timestamp) -> Result<u64> {
        let steps = [
            older(
                "deployments",
                "app_id",
                keep.deployments,
                before,
                " AND state NOT IN ('DEPLOYING', 'PAUSED', 'CANCELING')",
            ),
            // Versions before droplets: a version keeps its droplet.
            older("process_versions", "process_id", keep.versions, before, VERSIONS_IN_USE),
            older("droplets", "app_id", keep.droplets, before, DROPLETS_IN_USE),
            older("builds", "app_id", keep.builds, before, " AND state <> 'STAGING'"),
            older("packages", "app_id", keep.packages, before, PACKAGES_IN_USE),
        ];
        let mut removed = 0;
        for step in steps {
            removed += self.execute(step).await?;
        }
        Ok(removed)
    }
}
