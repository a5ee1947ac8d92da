//! Stacks known to the platform.

use crate::engine::Db;
use crate::error::Result;
use crate::sql::{Query, Row};
use crate::tx::Tx;
use model::resource::Stack;

fn stack(_: &Db, row: &Row) -> Result<Stack> {
    Ok(Stack {
        id: row.id("id")?,
        name: row.parse("name")?,
        description: row.text("description")?,
        default: row.get("is_default")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
    })
}

impl Db {
    /// All stacks, by name.
    pub async fn stack_list(&self) -> Result<Vec<Stack>> {
        let query = Query::new(
            "stack_list",
            "all",
            "SELECT id, name, description, is_default, metadata, created_at FROM stacks ORDER BY name",
        );
        self.map(query, stack).await
    }
}

impl Tx {
    /// Adds a stack, or describes a known one anew; a known one keeps its id.
    pub async fn stack_put(&self, stack: &Stack) -> Result<()> {
        if stack.default {
            let query = Query::new("stack_put", stack.id, "UPDATE stacks SET is_default = $1").arg(false);
            self.execute(query).await?;
        }
        let query = Query::new(
            "stack_put",
            stack.id,
            "INSERT INTO stacks (id, name, description, is_default, created_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (name) DO UPDATE SET description = excluded.description, is_default = excluded.is_default",
        )
        .arg(stack.id)
        .arg(stack.name.as_str())
        .arg(stack.description.as_str())
        .arg(stack.default)
        .arg(stack.created_at);
        self.execute(query).await.map(drop)
    }
}
