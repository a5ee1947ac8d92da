-- What users provide under a name, and the apps that get it.

CREATE TABLE service_instances (
    id UUID PRIMARY KEY,
    space_id UUID NOT NULL REFERENCES spaces (id),
    name TEXT NOT NULL,
    secrets_sealed BYTEA NOT NULL,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX service_instances_name ON service_instances (space_id, lower(name));

CREATE TABLE service_bindings (
    id UUID PRIMARY KEY,
    instance_id UUID NOT NULL REFERENCES service_instances (id) ON DELETE CASCADE,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX service_bindings_app ON service_bindings (app_id, instance_id);
CREATE INDEX service_bindings_instance ON service_bindings (instance_id);
CREATE UNIQUE INDEX service_bindings_name ON service_bindings (app_id, lower(name)) WHERE name IS NOT NULL;
