-- Undoes 0010. What users wanted to run beside their processes is forgotten.
ALTER TABLE revisions DROP COLUMN sidecars;
ALTER TABLE process_versions DROP COLUMN sidecars;
DROP TABLE sidecars;
