-- What the buildpacks of a droplet want to run beside its processes.

ALTER TABLE droplets ADD COLUMN sidecars TEXT NOT NULL DEFAULT '[]';
