-- Apps that are images: what staging makes of an app, the image of a package with its credentials, and how the droplet
-- of one is run.

ALTER TABLE apps ADD COLUMN lifecycle TEXT NOT NULL DEFAULT 'buildpack';
ALTER TABLE builds ADD COLUMN lifecycle TEXT NOT NULL DEFAULT 'buildpack';
ALTER TABLE packages ADD COLUMN image_sealed BYTEA;
ALTER TABLE droplets ADD COLUMN image_sealed BYTEA;
