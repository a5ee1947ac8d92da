//! Pages of lists, and their order.

/// Which page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: u32,
    /// 1 to 5000.
    pub per_page: u32,
}

impl Page {
    /// Everything that one answer may hold.
    pub const ALL: Self = Self {
        number: 1,
        per_page: 5000,
    };
    /// At most one.
    pub const ONE: Self = Self { number: 1, per_page: 1 };

    pub(crate) fn offset(self) -> i64 {
        i64::from(self.number.saturating_sub(1)) * i64::from(self.per_page)
    }
}

/// One page, and how many there are in all.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    pub items: Vec<T>,
    /// Of the whole list.
    pub total: u64,
}

/// What a list is ordered by; the id decides between equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderBy {
    #[default]
    CreatedAt,
    UpdatedAt,
    Name,
}

/// Order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    pub by: OrderBy,
    pub descending: bool,
}

impl Order {
    /// Newest first.
    pub const NEWEST: Self = Self {
        by: OrderBy::CreatedAt,
        descending: true,
    };

    /// As SQL, for a table with the alias `t`. Where it has no name or change time, creation stands in.
    pub(crate) fn sql(self, name: Option<&str>, updated: bool) -> String {
        let direction = if self.descending { "DESC" } else { "ASC" };
        let column = match (self.by, name) {
            (OrderBy::Name, Some(name)) => name,
            (OrderBy::UpdatedAt, _) if updated => "t.updated_at",
            _ => "t.created_at",
        };
        format!("{column} {direction}, t.id {direction}")
    }
}

/// Whose view a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// An administrator's or the platform's own.
    All,
    /// What this user may read by roles.
    User(model::id::UserId),
}

impl Scope {
    /// Appends ` AND column IN (spaces that the user may read)`.
    pub(crate) fn spaces(self, query: crate::sql::Query, column: &str) -> crate::sql::Query {
        let Self::User(user) = self else { return query };
        query
            .push(" AND ")
            .push(column)
            .push(" IN (SELECT space_id FROM roles WHERE space_id IS NOT NULL AND user_id = ")
            .push_arg(user)
            .push(
                " UNION SELECT s.id FROM spaces s JOIN roles r ON r.org_id = s.org_id \
                 WHERE r.role = 'organization_manager' AND r.user_id = ",
            )
            .push_arg(user)
            .push(")")
    }

    /// Appends ` AND column IN (organisations that the user may read)`.
    pub(crate) fn orgs(self, query: crate::sql::Query, column: &str) -> crate::sql::Query {
        let Self::User(user) = self else { return query };
        query
            .push(" AND ")
            .push(column)
            .push(" IN (SELECT org_id FROM roles WHERE user_id = ")
            .push_arg(user)
            .push(")")
    }
}
