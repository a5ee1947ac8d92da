//! Holds what is done against the quotas of the organisation and the space that it is done in.
//!
//! A [`Guard`] is taken before anything is written and asked after: what grew beyond a bound is refused in CF's words,
//! and the transaction with it. Where no quota bounds anything it costs one query.

use crate::error::{Answer, Failure};
use model::id::{AppId, OrgId};
use model::limits::Limits;
use model::quota::{Bound, Exceeded, Usage};
use model::resource::{App, Quota, Space};
use store::Tx;

/// What was in use, and the quotas that bind.
pub struct Guard {
    space: Space,
    /// Each with what was in use of it.
    quotas: Vec<(Quota, Usage)>,
}

impl Guard {
    /// Looks at what is in use before a change in the space.
    pub async fn before(tx: &Tx, space: &Space) -> Answer<Self> {
        let mut quotas = Vec::new();
        for quota in tx.quotas_binding(space.org, space.id).await? {
            if quota.limits.bounds_anything() {
                let usage = tx.usage(space.org, quota.org.map(|_| space.id)).await?;
                quotas.push((quota, usage));
            }
        }
        Ok(Self {
            space: space.clone(),
            quotas,
        })
    }

    /// Refuses the change where more is in use than a quota allows.
    pub async fn after(&self, tx: &Tx) -> Answer<()> {
        for (quota, before) in &self.quotas {
            let after = tx.usage(self.space.org, quota.org.map(|_| self.space.id)).await?;
            if let Some(over) = quota.limits.exceeded(before, &after) {
                let name = match quota.org {
                    Some(_) => Some(self.space.name.to_string()),
                    None => tx.org_fetch(self.space.org).await?.map(|org| org.name.to_string()),
                };
                return Err(refusal(quota, over, false, &name.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// As [`Self::after`], of an app that was started: none of its instances may be too large either.
    pub async fn started(&self, tx: &Tx, app: &App) -> Answer<()> {
        if self.quotas.is_empty() {
            return Ok(());
        }
        for process in tx.processes_of_app(app.id).await? {
            if process.instances > 0 {
                self.instance(&process.limits)?;
            }
        }
        self.after(tx).await
    }

    /// Refuses instances of this size.
    pub fn instance(&self, limits: &Limits) -> Answer<()> {
        self.one(limits, false)
    }

    /// Refuses a task of this size, or one more of the app.
    pub async fn task(&self, tx: &Tx, app: AppId, limits: &Limits) -> Answer<()> {
        self.one(limits, true)?;
        for (quota, before) in &self.quotas {
            let after = before.with(limits, 1, false);
            if let Some(over) = quota
                .limits
                .exceeded(before, &after)
                .filter(|over| over.what == Bound::Memory)
            {
                return Err(refusal(quota, over, true, ""));
            }
            if let Some(limit) = quota.limits.app_tasks {
                let wanted = tx.tasks_live_of(app).await? + 1;
                let what = Bound::AppTasks;
                if wanted > limit {
                    return Err(refusal(quota, Exceeded { what, wanted, limit }, true, ""));
                }
            }
        }
        Ok(())
    }

    fn one(&self, limits: &Limits, task: bool) -> Answer<()> {
        let over = self
            .quotas
            .iter()
            .find_map(|(quota, _)| quota.limits.exceeded_by_one(limits).map(|over| (quota, over)));
        match over {
            Some((quota, over)) => Err(refusal(quota, over, task, "")),
            None => Ok(()),
        }
    }
}

/// One more private domain of an organisation.
pub async fn domain(tx: &Tx, org: OrgId, name: &str) -> Answer<()> {
    let quota = match tx.quotas_of_orgs(&[org]).await?.remove(&org) {
        Some(quota) => quota,
        None => store::DEFAULT_QUOTA,
    };
    let limit = tx
        .quota_fetch(quota)
        .await?
        .and_then(|quota| quota.limits.total_domains);
    match limit {
        Some(limit) if tx.usage(org, None).await?.domains > limit => Err(Failure::refused(format!(
            "The number of private domains exceeds the quota for organization \"{name}\""
        ))
        .hint(format!("The quota allows {limit}"))),
        _ => Ok(()),
    }
}

/// `name`: of the organisation or the space, where CF's words have it.
fn refusal(quota: &Quota, over: Exceeded, task: bool, name: &str) -> Failure {
    let of_space = quota.org.is_some();
    let whose = if of_space { "space" } else { "organization" };
    let unit = match over.what {
        Bound::Memory | Bound::InstanceMemory => " MiB",
        Bound::LogRate => " bytes per second",
        Bound::Instances | Bound::AppTasks | Bound::Routes | Bound::Domains => "",
    };
    let detail = match (over.what, task, of_space) {
        (Bound::Memory, true, _) => format!("memory_in_mb exceeds {whose} memory quota"),
        (Bound::InstanceMemory, true, _) => format!("memory_in_mb exceeds {whose} instance memory limit"),
        (Bound::AppTasks, ..) => format!("app_task_limit exceeds {whose} app task limit"),
        (Bound::Memory, false, false) => "memory quota_exceeded".to_owned(),
        (Bound::Memory, false, true) => "memory space_quota_exceeded".to_owned(),
        (Bound::InstanceMemory, false, false) => "memory instance_memory_limit_exceeded".to_owned(),
        (Bound::InstanceMemory, false, true) => "memory space_instance_memory_limit_exceeded".to_owned(),
        (Bound::Instances, _, false) => "app_instance_limit app_instance_limit_exceeded".to_owned(),
        (Bound::Instances, _, true) => "app_instance_limit space_app_instance_limit_exceeded".to_owned(),
        (Bound::LogRate, ..) => format!("log_rate_limit exceeds_{whose}_log_rate_quota"),
        (Bound::Routes, ..) => format!("Routes quota exceeded for {whose} '{name}'."),
        (Bound::Domains, ..) => format!("The number of private domains exceeds the quota for {whose}"),
    };
    let wanted = if over.wanted == u64::MAX {
        "without a bound".to_owned()
    } else {
        format!("{}{unit}", over.wanted)
    };
    Failure::refused(detail).hint(format!(
        "That would be {wanted}; the {whose}'s quota '{}' allows {}{unit}",
        quota.name, over.limit
    ))
}
