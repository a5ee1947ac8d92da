-- What an app ran, so that it can run it again. They outlive their droplets, so those are no foreign keys.

CREATE TABLE revisions (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    droplet_id UUID NOT NULL,
    env_sealed BYTEA NOT NULL,
    commands TEXT NOT NULL,
    description TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX revisions_version ON revisions (app_id, version);
