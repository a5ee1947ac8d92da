//! Quotas: what all of an organisation or a space may use together. Pure: usage and quota in, what is exceeded out.

use crate::limits::Limits;
use serde::{Deserialize, Serialize};

/// What a quota bounds; `None` is no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaLimits {
    /// MiB of all started instances and of running tasks.
    pub total_memory_mb: Option<u64>,
    /// MiB of one instance or task.
    pub instance_memory_mb: Option<u64>,
    /// Started instances.
    pub total_instances: Option<u64>,
    /// Log bytes per second of all started instances.
    pub log_bytes_per_second: Option<u64>,
    /// Tasks of one app that are not over.
    pub app_tasks: Option<u64>,
    pub total_routes: Option<u64>,
    /// Routes with a port of their own.
    pub total_reserved_ports: Option<u64>,
    /// Private domains; of organisations alone.
    pub total_domains: Option<u64>,
    /// Service instances of brokers.
    pub total_service_instances: Option<u64>,
    pub total_service_keys: Option<u64>,
    /// Whether plans that cost may be used.
    pub paid_services: bool,
}

impl QuotaLimits {
    /// No bound at all.
    pub const NONE: Self = Self {
        total_memory_mb: None,
        instance_memory_mb: None,
        total_instances: None,
        log_bytes_per_second: None,
        app_tasks: None,
        total_routes: None,
        total_reserved_ports: None,
        total_domains: None,
        total_service_instances: None,
        total_service_keys: None,
        paid_services: true,
    };
}

/// What is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// MiB of started instances and of tasks that are not over.
    pub memory_mb: u64,
    pub instances: u64,
    /// Log bytes per second that started instances may write; `None` where one has no bound.
    pub log_bytes_per_second: Option<u64>,
    pub routes: u64,
    /// Private domains.
    pub domains: u64,
}

impl Usage {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            memory_mb: 0,
            instances: 0,
            log_bytes_per_second: Some(0),
            routes: 0,
            domains: 0,
        }
    }

    /// With `count` started instances, or tasks, of these limits.
    #[must_use]
    pub fn with(self, limits: &Limits, count: u32, instances: bool) -> Self {
        if count == 0 {
            return self;
        }
        let count = u64::from(count);
        let rate = self.log_bytes_per_second.zip(limits.log_bytes_per_second);
        Self {
            memory_mb: self
                .memory_mb
                .saturating_add(u64::from(limits.memory_mb).saturating_mul(count)),
            instances: self.instances.saturating_add(if instances { count } else { 0 }),
            log_bytes_per_second: rate.map(|(sum, one)| sum.saturating_add(one.saturating_mul(count))),
            ..self
        }
    }
}

/// Something beyond a quota: which bound, what there would be, what there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    pub what: Bound,
    pub wanted: u64,
    pub limit: u64,
}

/// A bound of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Memory,
    InstanceMemory,
    Instances,
    LogRate,
    AppTasks,
    Routes,
    Domains,
}

impl QuotaLimits {
    /// Whether it bounds anything.
    #[must_use]
    pub fn bounds_anything(&self) -> bool {
        let free = Self {
            paid_services: self.paid_services,
            ..Self::NONE
        };
        *self != free
    }

    /// What `after` uses beyond the quota and more than `before`: who is above a quota may still go down.
    #[must_use]
    pub fn exceeded(&self, before: &Usage, after: &Usage) -> Option<Exceeded> {
        let rate = |usage: &Usage| usage.log_bytes_per_second.unwrap_or(u64::MAX);
        let bounds = [
            (Bound::Memory, self.total_memory_mb, before.memory_mb, after.memory_mb),
            (
                Bound::Instances,
                self.total_instances,
                before.instances,
                after.instances,
            ),
            (Bound::LogRate, self.log_bytes_per_second, rate(before), rate(after)),
            (Bound::Routes, self.total_routes, before.routes, after.routes),
            (Bound::Domains, self.total_domains, before.domains, after.domains),
        ];
        bounds.into_iter().find_map(|(what, limit, before, after)| {
            let limit = limit?;
            (after > limit && after > before).then_some(Exceeded {
                what,
                wanted: after,
                limit,
            })
        })
    }

    /// Whether one instance or task may be this large.
    #[must_use]
    pub fn exceeded_by_one(&self, limits: &Limits) -> Option<Exceeded> {
        let limit = self.instance_memory_mb?;
        let wanted = u64::from(limits.memory_mb);
        (wanted > limit).then_some(Exceeded {
            what: Bound::InstanceMemory,
            wanted,
            limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory_mb: u32, rate: Option<u64>) -> Limits {
        Limits {
            memory_mb,
            log_bytes_per_second: rate,
            ..Limits::APP
        }
    }

    #[test]
    fn usage_adds_up_and_one_without_a_bound_has_none() {
        let used = Usage::none()
            .with(&limits(100, Some(10)), 3, true)
            .with(&limits(50, Some(5)), 1, false);
        assert_eq!(
            (used.memory_mb, used.instances, used.log_bytes_per_second),
            (350, 3, Some(35))
        );
        assert_eq!(used.with(&limits(1, None), 0, true), used, "nothing of it runs");
        assert_eq!(used.with(&limits(1, None), 1, true).log_bytes_per_second, None);
    }

    #[test]
    fn only_what_grows_beyond_a_bound_exceeds_it() {
        let quota = QuotaLimits {
            total_memory_mb: Some(1000),
            total_instances: Some(4),
            ..QuotaLimits::NONE
        };
        let of = |memory_mb, instances| Usage {
            memory_mb,
            instances,
            ..Usage::none()
        };
        assert_eq!(quota.exceeded(&of(0, 0), &of(1000, 4)), None);
        let over = quota.exceeded(&of(900, 1), &of(1001, 2)).expect("too much");
        assert_eq!((over.what, over.wanted, over.limit), (Bound::Memory, 1001, 1000));
        assert_eq!(
            quota.exceeded(&of(0, 4), &of(0, 5)).expect("too many").what,
            Bound::Instances
        );
        assert_eq!(
            quota.exceeded(&of(2000, 9), &of(1500, 8)),
            None,
            "who is above may go down"
        );
        assert_eq!(QuotaLimits::NONE.exceeded(&of(0, 0), &of(u64::MAX, u64::MAX)), None);
        let rated = QuotaLimits {
            log_bytes_per_second: Some(100),
            ..QuotaLimits::NONE
        };
        let unbounded = Usage::none().with(&limits(1, None), 1, true);
        assert_eq!(
            rated.exceeded(&Usage::none(), &unbounded).expect("no bound").what,
            Bound::LogRate
        );
    }

    #[test]
    fn one_instance_has_its_own_bound() {
        let quota = QuotaLimits {
            instance_memory_mb: Some(512),
            ..QuotaLimits::NONE
        };
        assert_eq!(quota.exceeded_by_one(&limits(512, None)), None);
        assert!(quota.exceeded_by_one(&limits(513, None)).is_some());
        assert!(QuotaLimits::NONE.exceeded_by_one(&limits(u32::MAX, None)).is_none());
    }
}
