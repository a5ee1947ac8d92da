-- Undoes 0007.
ALTER TABLE stacks DROP COLUMN metadata;
ALTER TABLE users DROP COLUMN metadata;
ALTER TABLE domains DROP COLUMN metadata;
ALTER TABLE tasks DROP COLUMN metadata;
ALTER TABLE processes DROP COLUMN metadata;
ALTER TABLE droplets DROP COLUMN metadata;
ALTER TABLE builds DROP COLUMN metadata;
ALTER TABLE packages DROP COLUMN metadata;
