-- What an app ran, so that it can run it again. They outlive their droplets, so those are no foreign keys.

CREATE TABLE revisions (
    id BLOB PRIMARY KEY,
    app_id BLOB NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    droplet_id BLOB NOT NULL,
    env_sealed BLOB NOT NULL,
    commands TEXT NOT NULL,
    description TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX revisions_version ON revisions (app_id, version);
