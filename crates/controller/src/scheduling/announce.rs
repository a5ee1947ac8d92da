//! Tells in events what plans find out and do not execute: instances that have come to every router, and work that no
//! cell takes. Each thing once.

use super::load::Loaded;
use super::{CycleError, Loop, failed};
use crate::events::record;
use model::work::Owner;
use scheduler::{JobRef, Plan, Refusals, Slot, Unplaced};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use store::NewEvent;

impl Loop {
    pub(super) async fn announce(&mut self, plan: &Plan, loaded: &Loaded) -> Result<(), CycleError> {
        let mut events = self.routed(loaded);
        events.extend(self.unplaced(plan, loaded));
        if events.is_empty() {
            return Ok(());
        }
        let store = &self.control.context.store;
        let tx = store.begin().await.map_err(failed("begin events"))?;
        for event in events {
            tx.event(event);
        }
        tx.commit().await.map_err(failed("commit events"))
    }

    /// Instances that every live router has now.
    fn routed(&self, loaded: &Loaded) -> Vec<NewEvent> {
        let routed = self.control.edge.newly_routed();
        let events = routed.iter().filter_map(|id| loaded.works.get(id)).filter_map(|work| {
            let data = record::about(work, &[])?;
            Some(record::event(&work.spec.owner, "instance.routed", data, loaded.now))
        });
        events.collect()
    }

    /// Work that no cell takes, where this is new or the reason is another.
    fn unplaced(&mut self, plan: &Plan, loaded: &Loaded) -> Vec<NewEvent> {
        // Work of one size has the same reason, which names every cell and is made once.
        let mut by_size: HashMap<*const Refusals, String> = HashMap::new();
        let mut reason = |unplaced: &Unplaced| {
            let told = by_size.entry(Arc::as_ptr(&unplaced.refusals));
            told.or_insert_with(|| unplaced.reason()).clone()
        };
        let reasons: HashMap<Slot, String> = plan
            .unplaced
            .iter()
            .map(|unplaced| (unplaced.slot, reason(unplaced)))
            .collect();
        let news = plan
            .unplaced
            .iter()
            .filter(|unplaced| self.unplaced.get(&unplaced.slot) != reasons.get(&unplaced.slot));
        let events = news.filter_map(|unplaced| {
            let (owner, kind, data) = unplaced_event(unplaced, loaded)?;
            Some(record::event(owner, kind, data, loaded.now))
        });
        let events = events.collect();
        self.unplaced = reasons;
        events
    }
}

fn unplaced_event<'a>(unplaced: &Unplaced, loaded: &'a Loaded) -> Option<(&'a Owner, &'static str, Value)> {
    let (reason, change) = (unplaced.reason(), unplaced.smallest_change());
    match unplaced.slot {
        Slot::Instance {
            process,
            version,
            index,
        } => {
            let of = loaded.processes.get(&process)?;
            let data = json!({
                "process": process,
                "type": of.process.process_type,
                "version": version,
                "index": index,
                "reason": reason,
                "smallest_change": change,
            });
            Some((&of.owner, "instance.unplaced", data))
        }
        Slot::Job(JobRef::Build(id)) => {
            let pending = loaded.builds.iter().find(|pending| pending.build.id == id)?;
            let data = json!({"build": id, "reason": reason, "smallest_change": change});
            Some((&pending.owner, "build.unplaced", data))
        }
        Slot::Job(JobRef::Task(id)) => {
            let data = json!({"task": id, "reason": reason, "smallest_change": change});
            Some((&loaded.tasks.get(&id)?.owner, "task.unplaced", data))
        }
    }
}
