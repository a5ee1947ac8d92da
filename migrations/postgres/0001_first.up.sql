-- The first schema. Instants are microseconds since 1970 (UTC) in BIGINT columns whose names end in _at or _until.
-- Lists and maps that are never queried into are JSON in TEXT. Columns named *_sealed are encrypted by the program.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('events', 0);

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value_sealed BYTEA NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    held_until BIGINT NOT NULL
);

CREATE TABLE users (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    admin BOOLEAN NOT NULL,
    password_hash TEXT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (kind, lower(name));

CREATE TABLE refresh_tokens (
    digest BYTEA PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    valid_until BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_valid ON refresh_tokens (valid_until);

CREATE TABLE orgs (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    suspended BOOLEAN NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX orgs_name ON orgs (lower(name));

CREATE TABLE spaces (
    id UUID PRIMARY KEY,
    org_id UUID NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX spaces_name ON spaces (org_id, lower(name));

CREATE TABLE roles (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    org_id UUID NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    space_id UUID REFERENCES spaces (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX roles_org ON roles (user_id, role, org_id) WHERE space_id IS NULL;
CREATE UNIQUE INDEX roles_space ON roles (user_id, role, space_id) WHERE space_id IS NOT NULL;
CREATE INDEX roles_of_org ON roles (org_id);
CREATE INDEX roles_of_space ON roles (space_id);

CREATE TABLE stacks (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    is_default BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE domains (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    org_id UUID REFERENCES orgs (id) ON DELETE CASCADE,
    internal BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX domains_name ON domains (lower(name));

CREATE TABLE apps (
    id UUID PRIMARY KEY,
    space_id UUID NOT NULL REFERENCES spaces (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    buildpacks TEXT NOT NULL,
    stack TEXT NOT NULL,
    env_sealed BYTEA NOT NULL,
    droplet_id UUID,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX apps_name ON apps (space_id, lower(name));
CREATE INDEX apps_created ON apps (created_at, id);

CREATE TABLE processes (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    instances BIGINT NOT NULL,
    limits TEXT NOT NULL,
    health TEXT NOT NULL,
    command TEXT,
    version_id UUID,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX processes_type ON processes (app_id, type);

CREATE TABLE process_versions (
    id UUID PRIMARY KEY,
    process_id UUID NOT NULL REFERENCES processes (id) ON DELETE CASCADE,
    app_id UUID NOT NULL,
    droplet_id UUID NOT NULL,
    command TEXT,
    env_sealed BYTEA NOT NULL,
    limits TEXT NOT NULL,
    health TEXT NOT NULL,
    grace_seconds BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX process_versions_process ON process_versions (process_id, created_at);

CREATE TABLE packages (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    digest TEXT,
    size_bytes BIGINT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX packages_app ON packages (app_id, created_at);

-- One row per file of a package: where its bytes are, so that the next upload need not bring them again.
CREATE TABLE package_files (
    package_id UUID NOT NULL REFERENCES packages (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    sha1 BYTEA NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    mode BIGINT NOT NULL,
    pack TEXT NOT NULL,
    pack_offset BIGINT NOT NULL,
    pack_length BIGINT NOT NULL,
    compression TEXT NOT NULL,
    PRIMARY KEY (package_id, path)
);
CREATE INDEX package_files_content ON package_files (sha1, size_bytes);

CREATE TABLE builds (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    package_id UUID NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    droplet_id UUID,
    buildpacks TEXT NOT NULL,
    stack TEXT NOT NULL,
    limits TEXT NOT NULL,
    input_digest TEXT,
    created_by UUID NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX builds_app ON builds (app_id, created_at);
CREATE INDEX builds_pending ON builds (created_at) WHERE state = 'STAGING';

CREATE TABLE droplets (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    package_id UUID,
    build_id UUID,
    digest TEXT NOT NULL,
    layers TEXT NOT NULL,
    processes TEXT NOT NULL,
    buildpacks TEXT NOT NULL,
    stack TEXT NOT NULL,
    input_digest TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX droplets_app ON droplets (app_id, created_at);
CREATE INDEX droplets_input ON droplets (app_id, input_digest);

CREATE TABLE build_caches (
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    stack TEXT NOT NULL,
    cache TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (app_id, stack)
);

CREATE TABLE deployments (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    droplet_id UUID NOT NULL,
    previous_droplet_id UUID,
    process_id UUID NOT NULL,
    version_id UUID NOT NULL,
    previous_version_id UUID,
    max_in_flight BIGINT NOT NULL,
    error TEXT,
    created_by UUID NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX deployments_app ON deployments (app_id, created_at);
CREATE UNIQUE INDEX deployments_active ON deployments (process_id) WHERE state IN ('DEPLOYING', 'CANCELING');

CREATE TABLE tasks (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    name TEXT NOT NULL,
    command TEXT NOT NULL,
    droplet_id UUID NOT NULL,
    limits TEXT NOT NULL,
    state TEXT NOT NULL,
    failure TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tasks_sequence ON tasks (app_id, sequence);
CREATE INDEX tasks_live ON tasks (created_at) WHERE state IN ('PENDING', 'RUNNING', 'CANCELING');

CREATE TABLE routes (
    id UUID PRIMARY KEY,
    space_id UUID NOT NULL REFERENCES spaces (id),
    domain_id UUID NOT NULL REFERENCES domains (id),
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX routes_address ON routes (domain_id, lower(host), path);
CREATE INDEX routes_space ON routes (space_id);

CREATE TABLE destinations (
    id UUID PRIMARY KEY,
    route_id UUID NOT NULL REFERENCES routes (id) ON DELETE CASCADE,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    port BIGINT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX destinations_target ON destinations (route_id, app_id, process_type, coalesce(port, 0));
CREATE INDEX destinations_app ON destinations (app_id);

CREATE TABLE jobs (
    id UUID PRIMARY KEY,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX jobs_created ON jobs (created_at);

CREATE TABLE events (
    sequence BIGINT PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    target_guid TEXT NOT NULL,
    target_type TEXT NOT NULL,
    target_name TEXT NOT NULL,
    org_id UUID,
    space_id UUID,
    data TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX events_target ON events (target_guid, sequence);
CREATE INDEX events_space ON events (space_id, sequence);
CREATE INDEX events_created ON events (created_at);

CREATE TABLE cells (
    id UUID PRIMARY KEY,
    info TEXT NOT NULL,
    cordoned BOOLEAN NOT NULL,
    lease_until BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Placements and what is known of them. They outlive what they were placed for, so nothing here is a foreign key.
CREATE TABLE works (
    id UUID PRIMARY KEY,
    cell_id UUID NOT NULL,
    epoch BIGINT NOT NULL,
    kind TEXT NOT NULL,
    app_id UUID NOT NULL,
    subject_id UUID NOT NULL,
    version_id UUID,
    process_type TEXT NOT NULL,
    instance BIGINT NOT NULL,
    port BIGINT,
    wanted TEXT NOT NULL,
    spec_sealed BYTEA NOT NULL,
    rank BIGINT NOT NULL,
    state TEXT NOT NULL,
    routable BOOLEAN NOT NULL,
    address TEXT,
    since_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX works_live ON works (cell_id) WHERE rank < 5;
CREATE INDEX works_live_app ON works (app_id, process_type) WHERE rank < 5;
CREATE INDEX works_history ON works (subject_id, since_at);
CREATE INDEX works_ended ON works (since_at) WHERE rank = 5;
