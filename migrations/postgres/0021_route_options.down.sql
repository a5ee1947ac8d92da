ALTER TABLE destinations DROP COLUMN protocol;
ALTER TABLE routes DROP COLUMN options;
