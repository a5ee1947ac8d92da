//! Isolation segments, who is entitled to them, and whose work goes there.

use crate::common::{Has, NamedFilter};
use crate::engine::Db;
use crate::error::Result;
use crate::notify::Topic;
use crate::page::{Order, Page, Paged, Scope};
use crate::sql::{Query, Row, json};
use crate::tx::Tx;
use model::id::{OrgId, SegmentId, SpaceId};
use model::isolation::{SHARED, Segment};
use std::collections::HashMap;

/// Which segments a list holds.
pub type SegmentFilter = NamedFilter<SegmentId>;

const SEGMENT: &str = "t.id, t.name, t.metadata, t.created_at, t.updated_at";
const ENTITLED: &str = " AND t.id IN (SELECT segment_id FROM entitled_orgs WHERE 1 = 1";

fn segment(_: &Db, row: &Row) -> Result<Segment> {
    Ok(Segment {
        id: row.id("id")?,
        name: row.text("name")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

impl Db {
    /// A segment by id, if `scope` holds an organisation that may use it.
    pub async fn segment_fetch(&self, id: SegmentId, scope: Scope) -> Result<Option<Segment>> {
        let mut query = Query::new("segment_fetch", id, "")
            .push(&format!("SELECT {SEGMENT} FROM isolation_segments t WHERE t.id = "))
            .push_arg(id);
        if scope != Scope::All {
            query = scope.orgs(query.push(ENTITLED), "org_id").push(")");
        }
        self.find(query, segment).await
    }

    /// Segments that organisations within `scope` may use.
    pub async fn segment_list(
        &self,
        filter: &SegmentFilter,
        scope: Scope,
        order: Order,
        page: Page,
    ) -> Result<Paged<Segment>> {
        let mut query = Query::new("segment_list", "a list", "FROM isolation_segments t WHERE 1 = 1")
            .and_in_some("t.id", filter.ids.as_deref())
            .and_in_some("t.name", filter.names.as_deref());
        if let Some(orgs) = &filter.orgs {
            query = query.push(ENTITLED).and_in("org_id", orgs.iter().copied()).push(")");
        }
        if scope != Scope::All {
            query = scope.orgs(query.push(ENTITLED), "org_id").push(")");
        }
        let query = self.narrowed(query, &filter.common, Has::All);
        self.list(SEGMENT, query, &order.sql(Some("t.name"), true), page, segment)
            .await
    }

    /// Organisations within `scope` that may use a segment.
    pub async fn segment_orgs(&self, id: SegmentId, scope: Scope) -> Result<Vec<OrgId>> {
        let query = Query::new(
            "segment_orgs",
            id,
            "SELECT org_id FROM entitled_orgs WHERE segment_id = $1",
        )
        .arg(id);
        let query = scope.orgs(query, "org_id").push(" ORDER BY org_id");
        self.map(query, |_, row| row.id("org_id")).await
    }

    /// Spaces within `scope` that are assigned to a segment.
    pub async fn segment_spaces(&self, id: SegmentId, scope: Scope) -> Result<Vec<SpaceId>> {
        let query = Query::new(
            "segment_spaces",
            id,
            "SELECT space_id FROM space_segments WHERE segment_id = $1",
        )
        .arg(id);
        let query = scope.spaces(query, "space_id").push(" ORDER BY space_id");
        self.map(query, |_, row| row.id("space_id")).await
    }

    /// Whether an organisation may use a segment.
    pub async fn segment_is_entitled(&self, id: SegmentId, org: OrgId) -> Result<bool> {
        Ok(self.segment_orgs(id, Scope::All).await?.contains(&org))
    }

    /// Organisations of which a segment is the default.
    pub async fn segment_default_of(&self, id: SegmentId) -> Result<Vec<OrgId>> {
        let query = Query::new(
            "segment_default_of",
            id,
            "SELECT org_id FROM org_segments WHERE segment_id = $1 ORDER BY org_id",
        )
        .arg(id);
        self.map(query, |_, row| row.id("org_id")).await
    }

    /// The segment of an organisation's spaces that have none of their own.
    pub async fn org_segment(&self, org: OrgId) -> Result<Option<SegmentId>> {
        let query = Query::new(
            "org_segment",
            org,
            "SELECT segment_id FROM org_segments WHERE org_id = $1",
        )
        .arg(org);
        self.find(query, |_, row| row.id("segment_id")).await
    }

    /// The segment that a space is assigned to by itself.
    pub async fn space_segment(&self, space: SpaceId) -> Result<Option<SegmentId>> {
        let query = Query::new(
            "space_segment",
            space,
            "SELECT segment_id FROM space_segments WHERE space_id = $1",
        )
        .arg(space);
        self.find(query, |_, row| row.id("segment_id")).await
    }

    /// By space, the name of the segment that its work is placed in, where that is another than the shared one.
    pub async fn segments_by_space(&self) -> Result<HashMap<SpaceId, String>> {
        let query = Query::new(
            "segments_by_space",
            "all",
            "SELECT s.id, g.name FROM spaces s LEFT JOIN space_segments o ON o.space_id = s.id \
             LEFT JOIN org_segments d ON d.org_id = s.org_id \
             JOIN isolation_segments g ON g.id = coalesce(o.segment_id, d.segment_id) WHERE g.id <> $1",
        )
        .arg(SHARED);
        let all = self.map(query, |_, row| Ok((row.id("id")?, row.text("name")?))).await?;
        Ok(all.into_iter().collect())
    }
}

impl Tx {
    /// A new segment. Taken: `isolation segment name`.
    pub async fn segment_create(&self, segment: &Segment) -> Result<()> {
        let query = Query::new(
            "segment_create",
            segment.id,
            "INSERT INTO isolation_segments (id, name, metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .taken("isolation segment name")
        .arg(segment.id)
        .arg(segment.name.as_str())
        .arg(json(&segment.metadata)?)
        .arg(segment.created_at)
        .arg(segment.updated_at);
        self.execute(query).await.map(drop)
    }

    /// Everything that can change as given. Taken: `isolation segment name`.
    pub async fn segment_update(&self, segment: &Segment) -> Result<bool> {
        let query = Query::new(
            "segment_update",
            segment.id,
            "UPDATE isolation_segments SET name = $1, metadata = $2, updated_at = $3 WHERE id = $4",
        )
        .taken("isolation segment name")
        .arg(segment.name.as_str())
        .arg(json(&segment.metadata)?)
        .arg(segment.updated_at)
        .arg(segment.id);
        Ok(self.execute(query).await? > 0)
    }

    /// Removes a segment that nobody is entitled to; else `Dangling`.
    pub async fn segment_delete(&self, id: SegmentId) -> Result<bool> {
        let query = Query::new("segment_delete", id, "DELETE FROM isolation_segments WHERE id = $1").arg(id);
        Ok(self.execute(query).await? > 0)
    }

    /// From now on the organisation may use it.
    pub async fn segment_entitle(&self, id: SegmentId, org: OrgId) -> Result<()> {
        let query = Query::new(
            "segment_entitle",
            id,
            "INSERT INTO entitled_orgs (segment_id, org_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .arg(id)
        .arg(org);
        self.execute(query).await.map(drop)
    }

    /// The organisation may use it no more. True where it could.
    pub async fn segment_revoke(&self, id: SegmentId, org: OrgId) -> Result<bool> {
        let query = Query::new(
            "segment_revoke",
            id,
            "DELETE FROM entitled_orgs WHERE segment_id = $1 AND org_id = $2",
        )
        .arg(id)
        .arg(org);
        Ok(self.execute(query).await? > 0)
    }

    /// The segment of an organisation's spaces that have none of their own. It holds for what is placed from now on.
    pub async fn org_segment_set(&self, org: OrgId, segment: Option<SegmentId>) -> Result<()> {
        let query = match segment {
            Some(segment) => Query::new(
                "org_segment_set",
                org,
                "INSERT INTO org_segments (org_id, segment_id) VALUES ($1, $2) \
                 ON CONFLICT (org_id) DO UPDATE SET segment_id = excluded.segment_id",
            )
            .arg(org)
            .arg(segment),
            None => Query::new("org_segment_set", org, "DELETE FROM org_segments WHERE org_id = $1").arg(org),
        };
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }

    /// The segment of a space itself. It holds for what is placed from now on.
    pub async fn space_segment_set(&self, space: SpaceId, segment: Option<SegmentId>) -> Result<()> {
        let query = match segment {
            Some(segment) => Query::new(
                "space_segment_set",
                space,
                "INSERT INTO space_segments (space_id, segment_id) VALUES ($1, $2) \
                 ON CONFLICT (space_id) DO UPDATE SET segment_id = excluded.segment_id",
            )
            .arg(space)
            .arg(segment),
            None => Query::new(
                "space_segment_set",
                space,
                "DELETE FROM space_segments WHERE space_id = $1",
            )
            .arg(space),
        };
        self.touch(Topic::Desired);
        self.execute(query).await.map(drop)
    }
}
