-- Undoes 0015. Apps that are images are gone with what they are made of: nothing else could run their layers.
DELETE FROM apps WHERE lifecycle = 'docker';
ALTER TABLE droplets DROP COLUMN image_sealed;
ALTER TABLE packages DROP COLUMN image_sealed;
ALTER TABLE builds DROP COLUMN lifecycle;
ALTER TABLE apps DROP COLUMN lifecycle;
