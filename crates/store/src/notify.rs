//! Change notification: what moved, not how. In-process on SQLite; between processes by LISTEN/NOTIFY on PostgreSQL.

use model::id::CellId;
use sqlx::postgres::{PgListener, PgPool};
use std::time::Duration;
use tokio::sync::broadcast;

/// The channel that controllers of one database talk on.
pub(crate) const CHANNEL: &str = "paas_changes";
/// How many topics a slow subscriber may be behind before it gets [`Topic::Resync`] instead.
const BACKLOG: usize = 1024;
/// Pause before a lost listener is connected again.
const RECONNECT: Duration = Duration::from_millis(500);
/// The safety net under NOTIFY.
const SAFETY_POLL: Duration = Duration::from_secs(15);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Something that the scheduler plans by.
    Desired,
    /// A cell's assignment set.
    Work(CellId),
    /// Something that the route table is made of.
    Routes,
    /// There are new events.
    Events,
    /// What sandboxes may connect to.
    Security,
    /// Anything may have: look at everything.
    Resync,
}

impl Topic {
    pub(crate) fn encode(self) -> String {
        match self {
            Self::Desired => "desired".into(),
            Self::Work(cell) => format!("work {cell}"),
            Self::Routes => "routes".into(),
            Self::Events => "events".into(),
            Self::Security => "security".into(),
            Self::Resync => "resync".into(),
        }
    }

    fn decode(text: &str) -> Self {
        match text.split_once(' ') {
            Some(("work", cell)) => cell.parse().map_or(Self::Resync, Self::Work),
            _ => match text {
                "desired" => Self::Desired,
                "routes" => Self::Routes,
                "events" => Self::Events,
                "security" => Self::Security,
                _ => Self::Resync,
            },
        }
    }
}

/// Hands topics to all subscribers of this process.
#[derive(Clone)]
pub(crate) struct Bus(broadcast::Sender<Topic>);

impl Bus {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn publish(&self, topic: Topic) {
        // Nobody listening is no error.
        let _ = self.0.send(topic);
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

/// Topics from the moment of subscribing on.
pub struct Subscription(broadcast::Receiver<Topic>);

impl Subscription {
    /// The next topic. One that fell behind gets [`Topic::Resync`]. `None` once the store is gone.
    pub async fn next(&mut self) -> Option<Topic> {
        match self.0.recv().await {
            Ok(topic) => Some(topic),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Topic::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Passes what other processes notify on to the bus, for as long as the pool is open.
pub(crate) async fn listen(pool: PgPool, bus: Bus) {
    while !pool.is_closed() {
        if let Err(error) = relay(&pool, &bus).await
            && !pool.is_closed()
        {
            tracing::warn!(%error, "lost the database's notifications; connecting again");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn relay(pool: &PgPool, bus: &Bus) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // What was said while nobody listened.
    bus.publish(Topic::Resync);
    loop {
        match tokio::time::timeout(SAFETY_POLL, listener.try_recv()).await {
            Ok(Ok(Some(note))) => bus.publish(Topic::decode(note.payload())),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => bus.publish(Topic::Resync),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_travel_as_text() {
        for topic in [
            Topic::Desired,
            Topic::Routes,
            Topic::Events,
            Topic::Security,
            Topic::Resync,
            Topic::Work(CellId(uuid::Uuid::from_u128(5))),
        ] {
            assert_eq!(Topic::decode(&topic.encode()), topic);
        }
        assert_eq!(Topic::decode("work nonsense"), Topic::Resync);
    }
}
