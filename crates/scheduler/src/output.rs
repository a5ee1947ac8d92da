//! What a plan says. The controller executes it; `paas why` shows the parts that explain.

use crate::input::{JobRef, Needs, Slot};
use model::Timestamp;
use model::id::{AppId, CellId, DeploymentId, ProcessId, VersionId, WorkId};
use model::work::{Cause, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be done now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Deployments that reached their end; executed before everything else.
    pub finished: Vec<Finished>,
    /// Deployments that reached the step of their canary, and wait there.
    pub paused: Vec<DeploymentId>,
    /// Builds and tasks that need nothing more.
    pub settled: Vec<Settled>,
    /// Work that is given up because its cell is gone; executed together with `placements`.
    pub lost: Vec<Lost>,
    /// New work.
    pub placements: Vec<Placement>,
    /// Work of which something else is wanted now.
    pub wants: Vec<Want>,
    /// Work that no cell takes, with the reasons. Explains, is not executed.
    pub unplaced: Vec<Unplaced>,
    /// Instances that wait for their next start. Explains, is not executed.
    pub waiting: Vec<Waiting>,
    /// When to plan again if nothing happens before.
    pub next: Option<Timestamp>,
    /// When to plan again if a lease is not renewed before.
    pub lease_watch: Option<Timestamp>,
}

impl Plan {
    /// Whether there is nothing to execute.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.finished.is_empty()
            && self.paused.is_empty()
            && self.settled.is_empty()
            && self.lost.is_empty()
            && self.placements.is_empty()
            && self.wants.is_empty()
    }
}

/// New work on a cell. Its id and its spec are the executor's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// What for.
    pub slot: Slot,
    /// Its app.
    pub app: AppId,
    /// Where.
    pub cell: CellId,
    /// The lost work that it replaces.
    pub replaces: Option<WorkId>,
}

/// Work whose cell is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub work: WorkId,
}

/// What is wanted of a piece of work from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub work: WorkId,
    /// `Drain` or `Stop`.
    pub wanted: Wanted,
}

/// A deployment that reached its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Which.
    pub deployment: DeploymentId,
    /// The process, which runs `version` from now on.
    pub process: ProcessId,
    /// The version that stays.
    pub version: VersionId,
    /// `None` where all instances serve; else why it was cancelled.
    pub canceled: Option<String>,
}

/// A build or a task that needs nothing more.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Which.
    pub job: JobRef,
    /// How.
    pub verdict: Verdict,
}

/// How a build or a task came to its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// This work ended; its outcome is the result.
    Ended(WorkId),
    /// Placed as often as allowed; the last cause is the result.
    GivenUp {
        /// How often.
        tries: usize,
        /// The last cause.
        cause: Cause,
    },
    /// Ended on request before it ran, or while it did.
    Canceled,
}

/// An instance that waits for its next start.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its process.
    pub process: ProcessId,
    /// Its version.
    pub version: VersionId,
    /// Its index.
    pub index: u32,
    /// How often it crashed in a row.
    pub crashes: u32,
    /// The last cause.
    pub cause: Cause,
    /// Its next start; `None` where it was given up.
    pub until: Option<Timestamp>,
}

/// Why a cell does not take a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its lease ran out.
    NotAlive,
    /// It has not said yet what it holds.
    NotSynced,
    /// An operator cordoned it.
    Cordoned,
    /// It does not have the stack.
    Stack,
    /// It is of other isolation segments, or of some where none is asked for.
    Segment,
    /// Too little memory is free.
    Memory {
        /// MiB free.
        free_mb: u64,
    },
    /// Too little disk is free.
    Disk {
        /// MiB free.
        free_mb: u64,
    },
    /// It holds as many pieces of work as it may.
    Count {
        /// The most it may hold.
        max: u32,
    },
}

/// What cells have against a piece of work, by name and id.
pub type Refusals = BTreeMap<(String, CellId), Refusal>;

/// Work that no cell takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// What for.
    pub slot: Slot,
    /// Its app.
    pub app: AppId,
    /// What it asks for.
    pub needs: Needs,
    /// What each cell has against it; shared by all work of the same size.
    pub refusals: Arc<Refusals>,
}

impl Unplaced {
    /// The reasons by constraint, for people: `2 cells: not enough memory (need 512 MiB, most free 300 MiB)`.
    #[must_use]
    pub fn reason(&self) -> String {
        if self.refusals.is_empty() {
            return "no cell has joined the platform".to_owned();
        }
        let mut classes: BTreeMap<u8, (usize, String)> = BTreeMap::new();
        for refusal in self.refusals.values() {
            let (rank, _) = refusal.rank();
            let entry = classes.entry(rank).or_insert_with(|| (0, self.describe(rank, refusal)));
            entry.0 += 1;
        }
        let parts: Vec<String> = classes
            .values()
            .map(|(count, text)| format!("{count} {}: {text}", if *count == 1 { "cell" } else { "cells" }))
            .collect();
        parts.join("; ")
    }

    /// The smallest change that would let it be placed.
    #[must_use]
    pub fn smallest_change(&self) -> String {
        let nearest = self.refusals.iter().min_by_key(|(_, refusal)| {
            let (rank, missing) = refusal.rank();
            let missing = self.missing(refusal).unwrap_or(missing);
            (rank, missing)
        });
        let Some(((name, _), refusal)) = nearest else {
            return "start a cell".to_owned();
        };
        match refusal {
            Refusal::Memory { free_mb } => format!(
                "free {} MiB of memory on cell {name}, lower the app's memory limit to {free_mb} MiB, or add a cell",
                self.missing(refusal).unwrap_or(0)
            ),
            Refusal::Disk { free_mb } => format!(
                "free {} MiB of disk on cell {name}, lower the app's disk limit to {free_mb} MiB, or add a cell",
                self.missing(refusal).unwrap_or(0)
            ),
            Refusal::Count { max } => {
                format!("stop something on cell {name} (it holds {max} pieces of work, its most), or add a cell")
            }
            Refusal::Cordoned => format!("uncordon cell {name}, or add a cell"),
            Refusal::NotSynced => format!("wait: cell {name} has joined and is about to report what it runs"),
            Refusal::NotAlive => format!("bring back cell {name}, or add a cell"),
            Refusal::Stack => format!(
                "add stack {} to cell {name}, or add a cell that has it",
                self.needs.stack
            ),
            Refusal::Segment => match &self.needs.segment {
                Some(segment) => format!("give cell {name} the tag isolation-segment:{segment}, or add a cell with it"),
                None => "add a cell that is of no isolation segment".to_owned(),
            },
        }
    }

    fn missing(&self, refusal: &Refusal) -> Option<u64> {
        match refusal {
            Refusal::Memory { free_mb } => Some(u64::from(self.needs.memory_mb).saturating_sub(*free_mb)),
            Refusal::Disk { free_mb } => Some(u64::from(self.needs.disk_mb).saturating_sub(*free_mb)),
            _ => None,
        }
    }

    fn describe(&self, rank: u8, refusal: &Refusal) -> String {
        let most = |of: fn(&Refusal) -> Option<u64>| {
            let same = self.refusals.values().filter(|other| other.rank().0 == rank);
            same.filter_map(of).max().unwrap_or(0)
        };
        match refusal {
            Refusal::NotAlive => "not alive".to_owned(),
            Refusal::NotSynced => "joining".to_owned(),
            Refusal::Cordoned => "cordoned".to_owned(),
            Refusal::Stack => format!("without stack {}", self.needs.stack),
            Refusal::Segment => match &self.needs.segment {
                Some(segment) => format!("not of isolation segment {segment}"),
                None => "kept for isolation segments".to_owned(),
            },
            Refusal::Memory { .. } => format!(
                "not enough memory (needs {} MiB, most free {} MiB)",
                self.needs.memory_mb,
                most(|refusal| match refusal {
                    Refusal::Memory { free_mb } => Some(*free_mb),
                    _ => None,
                })
            ),
            Refusal::Disk { .. } => format!(
                "not enough disk (needs {} MiB, most free {} MiB)",
                self.needs.disk_mb,
                most(|refusal| match refusal {
                    Refusal::Disk { free_mb } => Some(*free_mb),
                    _ => None,
                })
            ),
            Refusal::Count { max } => format!("full ({max} pieces of work)"),
        }
    }
}

impl Refusal {
    /// How far from taking the work, nearest first: class, then amount.
    const fn rank(&self) -> (u8, u64) {
        match self {
            Self::NotSynced => (0, 0),
            Self::Memory { .. } => (1, 0),
            Self::Disk { .. } => (2, 0),
            Self::Count { .. } => (3, 0),
            Self::Cordoned => (4, 0),
            Self::NotAlive => (5, 0),
            Self::Stack => (6, 0),
            Self::Segment => (7, 0),
        }
    }
}
