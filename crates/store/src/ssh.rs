//! Whether people may have sessions inside instances: one switch for each app and one for each space.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::Query;
use crate::tx::Tx;
use model::Timestamp;
use model::id::{AppId, SpaceId};

/// How the switches stand that an app's sessions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshSwitches {
    /// The app's own.
    pub app: bool,
    /// Its space's.
    pub space: bool,
}

impl Db {
    /// How the switches of an app and of its space stand; both off where there is no such app.
    pub async fn ssh_of_app(&self, app: AppId) -> Result<SshSwitches> {
        let query = Query::new(
            "ssh_of_app",
            app,
            "SELECT a.ssh AS app, s.ssh AS space FROM apps a JOIN spaces s ON s.id = a.space_id WHERE a.id = $1",
        )
        .arg(app);
        let found = self
            .find(query, |_, row| {
                Ok(SshSwitches {
                    app: row.get("app")?,
                    space: row.get("space")?,
                })
            })
            .await?;
        Ok(found.unwrap_or(SshSwitches {
            app: false,
            space: false,
        }))
    }

    /// How a space's switch stands; off where there is no such space.
    pub async fn ssh_of_space(&self, space: SpaceId) -> Result<bool> {
        let query = Query::new("ssh_of_space", space, "SELECT ssh FROM spaces WHERE id = $1").arg(space);
        Ok(self.find(query, |_, row| row.get("ssh")).await?.unwrap_or(false))
    }
}

impl Tx {
    /// Sets an app's switch. False where there is no such app.
    pub async fn ssh_set_app(&self, app: AppId, enabled: bool, now: Timestamp) -> Result<bool> {
        let query = Query::new(
            "ssh_set_app",
            app,
            "UPDATE apps SET ssh = $1, updated_at = $2 WHERE id = $3",
        )
        .arg(enabled)
        .arg(now)
        .arg(app);
        Ok(self.execute(query).await? > 0)
    }

    /// Sets a space's switch. False where there is no such space.
    pub async fn ssh_set_space(&self, space: SpaceId, enabled: bool, now: Timestamp) -> Result<bool> {
        let query = Query::new(
            "ssh_set_space",
            space,
            "UPDATE spaces SET ssh = $1, updated_at = $2 WHERE id = $3",
        )
        .arg(enabled)
        .arg(now)
        .arg(space);
        Ok(self.execute(query).await? > 0)
    }
}
