//! Events, in one sequence without gaps: who has seen number n has seen all before it.

use crate::common::{Common, Has};
use crate::engine::Db;
use crate::error::Result;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Arg, Query, Row, json};
use crate::tx::Tx;
use model::Timestamp;
use model::id::{EventId, OrgId, SpaceId};
use model::resource::{Actor, Event, Target};

/// An event before it has its place in the sequence.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub id: EventId,
    /// Such as `audit.app.create`.
    pub kind: String,
    pub actor: Actor,
    pub target: Target,
    pub org: Option<OrgId>,
    pub space: Option<SpaceId>,
    pub data: serde_json::Value,
    pub created_at: Timestamp,
}

/// Which events a list holds; `None` does not filter.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub kinds: Option<Vec<String>>,
    pub targets: Option<Vec<String>>,
    pub spaces: Option<Vec<SpaceId>>,
    pub orgs: Option<Vec<OrgId>>,
    /// Only CF's kinds, `audit.*` and `app.crash`; not the phases that are ours.
    pub audit_only: bool,
    pub common: Common,
}

const EVENT: &str = "t.sequence, t.id, t.kind, t.actor, t.target_guid, t.target_type, t.target_name, t.org_id, \
                     t.space_id, t.data, t.created_at";

fn event(_: &Db, row: &Row) -> Result<Event> {
    Ok(Event {
        id: row.id("id")?,
        sequence: row.get("sequence")?,
        kind: row.text("kind")?,
        actor: row.json::<Actor>("actor")?,
        target: Target {
            guid: row.text("target_guid")?,
            kind: row.text("target_type")?,
            name: row.text("target_name")?,
        },
        org: row.id_opt("org_id")?,
        space: row.id_opt("space_id")?,
        data: row.json("data")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// Takes the next `count` numbers of a counter: the one before the first. The counter's row keeps others who want some
    /// waiting until this transaction is over, so that numbers are in the order of commits.
    pub(crate) async fn numbers(&self, counter: &'static str, count: i64) -> Result<i64> {
        let query = Query::new(
            "numbers",
            counter,
            "UPDATE counters SET value = value + $1 WHERE name = $2 RETURNING value",
        )
        .arg(count)
        .arg(counter);
        Ok(self.one(query).await?.get::<i64>("value")? - count)
    }

    /// Takes the next numbers of the sequence and writes the events. The counter's row keeps other transactions with
    /// events waiting until this one is over, which is what makes the sequence one of commits.
    pub(crate) async fn events_insert(&self, events: &[NewEvent]) -> Result<()> {
        let Ok(count) = i64::try_from(events.len()) else {
            return Ok(());
        };
        if count == 0 {
            return Ok(());
        }
        let mut sequence = self.numbers("events", count).await?;
        for batch in events.chunks(self.batch(11)) {
            let mut rows = Vec::with_capacity(batch.len());
            for event in batch {
                sequence += 1;
                rows.push(arguments(event, sequence)?);
            }
            let query = Query::new(
                "events_insert",
                count,
                "INSERT INTO events (sequence, id, kind, actor, target_guid, target_type, target_name, org_id, \
                 space_id, data, created_at) VALUES ",
            )
            .push_rows(rows);
            self.execute(query).await?;
        }
        Ok(())
    }

    /// An event by id.
    pub async fn event_fetch(&self, id: EventId) -> Result<Option<Event>> {
        let query = Query::new("event_fetch", id, "")
            .push(&format!("SELECT {EVENT} FROM events t WHERE t.id = "))
            .push_arg(id);
        self.find(query, event).await
    }

    /// Number of the newest event.
    pub async fn event_newest(&self) -> Result<i64> {
        let query = Query::new(
            "event_newest",
            "the sequence",
            "SELECT value FROM counters WHERE name = 'events'",
        );
        self.one(query).await?.get("value")
    }

    /// Events after number `since`, oldest first, of one target or of all.
    pub async fn events_since(&self, target: Option<&str>, since: i64, limit: u32) -> Result<Vec<Event>> {
        let mut query = Query::new("events_since", since, "")
            .push(&format!("SELECT {EVENT} FROM events t WHERE t.sequence > "))
            .push_arg(since);
        if let Some(target) = target {
            query = query.push(" AND t.target_guid = ").push_arg(target);
        }
        let query = query.push(" ORDER BY t.sequence LIMIT ").push_arg(i64::from(limit));
        self.map(query, event).await
    }

    /// Events of spaces within `scope`.
    pub async fn event_list(
        &self,
        filter: &EventFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Event>> {
        let query = Query::new("event_list", "a list", "FROM events t WHERE 1 = 1");
        let mut query = scope
            .spaces(query, "t.space_id")
            .and_in_some("t.kind", filter.kinds.as_deref())
            .and_in_some("t.target_guid", filter.targets.as_deref())
            .and_in_some("t.space_id", filter.spaces.as_deref())
            .and_in_some("t.org_id", filter.orgs.as_deref());
        if filter.audit_only {
            query = query.push(" AND (t.kind LIKE 'audit.%' OR t.kind = 'app.crash')");
        }
        let order = if order.descending {
            "t.sequence DESC"
        } else {
            "t.sequence"
        };
        let query = self.narrowed(query, &filter.common, Has::OnlyCreation);
        self.list(EVENT, query, order, page, event).await
    }
}

fn arguments(event: &NewEvent, sequence: i64) -> Result<Vec<Arg>> {
    Ok(vec![
        sequence.into(),
        event.id.into(),
        event.kind.as_str().into(),
        json(&event.actor)?.into(),
        event.target.guid.as_str().into(),
        event.target.kind.as_str().into(),
        event.target.name.as_str().into(),
        event.org.into(),
        event.space.into(),
        json(&event.data)?.into(),
        event.created_at.into(),
    ])
}

impl Tx {
    /// Removes events from before `before`; the sequence goes on.
    pub async fn events_prune(&self, before: Timestamp) -> Result<u64> {
        let query = Query::new("events_prune", "old events", "DELETE FROM events WHERE created_at < $1").arg(before);
        self.execute(query).await
    }
}
