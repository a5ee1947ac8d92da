-- What runs beside the processes of an app, by its users' wish or by its buildpacks'; versions and revisions keep what
-- they were made with. Those of buildpacks were known with the droplet alone.

CREATE TABLE sidecars (
    id BLOB PRIMARY KEY,
    app_id BLOB NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    what TEXT NOT NULL,
    origin TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX sidecars_name ON sidecars (app_id, name);
INSERT INTO sidecars (id, app_id, name, what, origin, created_at, updated_at)
SELECT randomblob(16), a.id, json_extract(s.value, '$.name'), s.value, 'buildpack', d.created_at, d.created_at
FROM apps a JOIN droplets d ON d.id = a.droplet_id, json_each(d.sidecars) s;
ALTER TABLE process_versions ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]';
UPDATE process_versions SET sidecars = (SELECT d.sidecars FROM droplets d WHERE d.id = process_versions.droplet_id)
WHERE droplet_id IN (SELECT id FROM droplets WHERE sidecars <> '[]');
ALTER TABLE revisions ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]';
