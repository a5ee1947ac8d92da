//! What each list can be asked for: filters, orders, and what may come with it. Whatever is not here is refused, as CF
//! does. A test of the controller holds it against every list that is served.

use crate::Route;

/// What a list, or one resource where nothing but `include` makes sense, can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub route: Route,
    /// Whether it is a list: then there are pages, orders, labels and times too.
    pub list: bool,
    /// Names of its own parameters.
    pub filters: &'static [&'static str],
    /// Orders beside those of all lists, [`ORDERS`].
    pub orders: &'static [&'static str],
    /// Related resources that can come along.
    pub include: &'static [&'static str],
    /// Related resources of which single fields can come along, with these fields: `fields[space]=guid,name`.
    pub fields: &'static [(&'static str, &'static [&'static str])],
    /// Parts of the resource that come on demand.
    pub embed: &'static [&'static str],
}

/// What every list can be asked for.
pub const OF_LISTS: [&str; 6] = [
    "page",
    "per_page",
    "order_by",
    "label_selector",
    "created_ats",
    "updated_ats",
];
/// Orders of every list.
pub const ORDERS: [&str; 2] = ["created_at", "updated_at"];
/// What has a name can be ordered by it.
const NAMED: &[&str] = &["name"];
const SPACE: &[&str] = &["space", "space.organization"];
const NONE: &[&str] = &[];

const fn list(path: &'static str, filters: &'static [&'static str]) -> Rules {
    Rules {
        list: true,
        filters,
        ..one(path, NONE)
    }
}

const fn one(path: &'static str, include: &'static [&'static str]) -> Rules {
    Rules {
        route: Route { method: "GET", path },
        list: false,
        filters: NONE,
        orders: NONE,
        include,
        fields: &[],
        embed: NONE,
    }
}

impl Rules {
    const fn ordered(mut self, orders: &'static [&'static str]) -> Self {
        self.orders = orders;
        self
    }

    const fn with(mut self, include: &'static [&'static str]) -> Self {
        self.include = include;
        self
    }

    const fn fields(mut self, fields: &'static [(&'static str, &'static [&'static str])]) -> Self {
        self.fields = fields;
        self
    }

    const fn embedding(mut self, embed: &'static [&'static str]) -> Self {
        self.embed = embed;
        self
    }

    /// The rules of a route, where it has any.
    #[must_use]
    pub fn of(method: &str, path: &str) -> Option<&'static Self> {
        RULES
            .iter()
            .find(|rules| rules.route.method == method && rules.route.path == path)
    }
}

/// Fields of what is around a service instance.
const AROUND_SERVICES: &[(&str, &[&str])] = &[
    ("space", &["guid", "name", "relationships.organization"]),
    ("space.organization", &["guid", "name"]),
    ("service_plan", &["guid", "name", "relationships.service_offering"]),
    (
        "service_plan.service_offering",
        &[
            "guid",
            "name",
            "description",
            "documentation_url",
            "tags",
            "relationships.service_broker",
        ],
    ),
    ("service_plan.service_offering.service_broker", &["guid", "name"]),
];

/// Each list, and each resource that something can come along with.
pub const RULES: &[Rules] = &[
    list(
        "/v3/apps",
        &[
            "guids",
            "names",
            "space_guids",
            "organization_guids",
            "stacks",
            "lifecycle_type",
        ],
    )
    .ordered(NAMED)
    .with(SPACE),
    one("/v3/apps/{guid}", SPACE),
    list("/v3/apps/{guid}/builds", &["states"]),
    list("/v3/apps/{guid}/droplets", &["guids", "states", "current"]),
    list("/v3/apps/{guid}/features", NONE).ordered(NAMED),
    list("/v3/apps/{guid}/packages", &["guids", "states", "types"]),
    list("/v3/apps/{guid}/processes", &["guids", "types"]).embedding(&["process_instances"]),
    list("/v3/apps/{guid}/revisions", &["versions", "deployable"]),
    list("/v3/apps/{guid}/revisions/deployed", NONE),
    list(
        "/v3/apps/{guid}/routes",
        &["guids", "hosts", "paths", "ports", "domain_guids"],
    ),
    list("/v3/apps/{guid}/sidecars", NONE).ordered(NAMED),
    list(
        "/v3/apps/{guid}/tasks",
        &["guids", "names", "states", "sequence_ids", "droplet_guids"],
    )
    .ordered(NAMED),
    Rules {
        filters: &["envelope_types", "start_time", "end_time", "limit", "descending"],
        ..one("/api/v1/read/{source}", NONE)
    },
    Rules {
        filters: &["source_scope"],
        ..one("/api/v1/meta", NONE)
    },
    Rules {
        filters: &["query", "time"],
        ..one("/api/v1/query", NONE)
    },
    list("/v3/app_usage_events", &["after_guid", "guids"]),
    list(
        "/v3/audit_events",
        &["types", "target_guids", "space_guids", "organization_guids"],
    ),
    list("/v3/buildpacks", &["names", "stacks", "lifecycle"]).ordered(&["name", "position"]),
    list("/v3/builds", &["states", "app_guids", "package_guids"]),
    list(
        "/v3/deployments",
        &["app_guids", "states", "status_reasons", "status_values"],
    ),
    list("/v3/domains", &["guids", "names", "organization_guids"]).ordered(NAMED),
    Rules {
        filters: &["host", "path", "port"],
        ..one("/v3/domains/{guid}/route_reservations", NONE)
    },
    list(
        "/v3/droplets",
        &["guids", "states", "app_guids", "space_guids", "organization_guids"],
    ),
    list("/v3/feature_flags", NONE).ordered(NAMED),
    list("/v3/isolation_segments", &["guids", "names", "organization_guids"]).ordered(NAMED),
    list("/v3/isolation_segments/{guid}/organizations", &["guids", "names"]).ordered(NAMED),
    list("/v3/organizations", &["guids", "names"]).ordered(NAMED),
    list("/v3/organizations/{guid}/domains", &["guids", "names"]).ordered(NAMED),
    list(
        "/v3/organizations/{guid}/users",
        &["guids", "usernames", "partial_usernames", "origins"],
    )
    .ordered(NAMED),
    list(
        "/v3/organization_quotas",
        &["guids", "names", "organization_guids", "space_guids"],
    )
    .ordered(NAMED),
    list(
        "/v3/packages",
        &[
            "guids",
            "states",
            "types",
            "app_guids",
            "space_guids",
            "organization_guids",
        ],
    ),
    list("/v3/packages/{guid}/droplets", &["guids", "states"]),
    list(
        "/v3/processes",
        &["guids", "types", "app_guids", "space_guids", "organization_guids"],
    )
    .embedding(&["process_instances"]),
    list("/v3/processes/{guid}/sidecars", NONE).ordered(NAMED),
    list(
        "/v3/roles",
        &["guids", "types", "organization_guids", "space_guids", "user_guids"],
    )
    .with(&["user", "space", "organization"]),
    one("/v3/roles/{guid}", &["user", "space", "organization"]),
    list(
        "/v3/routes",
        &[
            "guids",
            "hosts",
            "paths",
            "ports",
            "domain_guids",
            "space_guids",
            "organization_guids",
            "app_guids",
        ],
    )
    .with(&["domain", "space", "space.organization"]),
    one("/v3/routes/{guid}", &["domain", "space", "space.organization"]),
    list(
        "/v3/security_groups",
        &[
            "guids",
            "names",
            "running_space_guids",
            "staging_space_guids",
            "globally_enabled_running",
            "globally_enabled_staging",
        ],
    )
    .ordered(NAMED),
    list(
        "/v3/service_credential_bindings",
        &[
            "guids",
            "names",
            "type",
            "app_guids",
            "app_names",
            "service_instance_guids",
            "service_instance_names",
            "service_plan_guids",
            "service_plan_names",
            "service_offering_guids",
            "service_offering_names",
        ],
    )
    .ordered(NAMED)
    .with(&["app", "service_instance"]),
    one("/v3/service_credential_bindings/{guid}", &["app", "service_instance"]),
    list(
        "/v3/service_instances",
        &[
            "guids",
            "names",
            "space_guids",
            "organization_guids",
            "type",
            "service_plan_names",
            "service_plan_guids",
        ],
    )
    .ordered(NAMED)
    .fields(AROUND_SERVICES),
    one("/v3/service_instances/{guid}", NONE).fields(AROUND_SERVICES),
    list(
        "/v3/service_route_bindings",
        &[
            "guids",
            "route_guids",
            "service_instance_guids",
            "service_instance_names",
        ],
    )
    .with(&["route", "service_instance"]),
    list(
        "/v3/service_usage_events",
        &[
            "after_guid",
            "guids",
            "service_instance_types",
            "service_offering_guids",
        ],
    ),
    list("/v3/spaces", &["guids", "names", "organization_guids"])
        .ordered(NAMED)
        .with(&["organization"]),
    one("/v3/spaces/{guid}", &["organization"]),
    list("/v3/spaces/{guid}/running_security_groups", &["guids", "names"]).ordered(NAMED),
    list("/v3/spaces/{guid}/staging_security_groups", &["guids", "names"]).ordered(NAMED),
    list(
        "/v3/spaces/{guid}/users",
        &["guids", "usernames", "partial_usernames", "origins"],
    )
    .ordered(NAMED),
    list(
        "/v3/space_quotas",
        &["guids", "names", "organization_guids", "space_guids"],
    )
    .ordered(NAMED),
    list("/v3/stacks", &["names", "default"]).ordered(NAMED),
    list("/v3/stacks/{guid}/apps", NONE).ordered(NAMED).with(SPACE),
    list(
        "/v3/tasks",
        &[
            "guids",
            "names",
            "states",
            "app_guids",
            "space_guids",
            "organization_guids",
        ],
    )
    .ordered(NAMED),
    list("/v3/users", &["guids", "usernames", "partial_usernames", "origins"]).ordered(NAMED),
];
