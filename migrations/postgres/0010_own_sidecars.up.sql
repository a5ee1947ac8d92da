-- What runs beside the processes of an app, by its users' wish or by its buildpacks'; versions and revisions keep what
-- they were made with. Those of buildpacks were known with the droplet alone.

CREATE TABLE sidecars (
    id UUID PRIMARY KEY,
    app_id UUID NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    what TEXT NOT NULL,
    origin TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX sidecars_name ON sidecars (app_id, name);
INSERT INTO sidecars (id, app_id, name, what, origin, created_at, updated_at)
SELECT gen_random_uuid(), a.id, s.value ->> 'name', s.value::text, 'buildpack', d.created_at, d.created_at
FROM apps a JOIN droplets d ON d.id = a.droplet_id, jsonb_array_elements(d.sidecars::jsonb) s (value);
ALTER TABLE process_versions ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]';
UPDATE process_versions v SET sidecars = d.sidecars FROM droplets d WHERE d.id = v.droplet_id AND d.sidecars <> '[]';
ALTER TABLE revisions ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]';
