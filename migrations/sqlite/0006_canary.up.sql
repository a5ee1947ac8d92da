-- Deployments that stop for a look, name a revision, and carry metadata.

ALTER TABLE deployments ADD COLUMN canary TEXT;
ALTER TABLE deployments ADD COLUMN revision_id BLOB;
ALTER TABLE deployments ADD COLUMN revision_version INTEGER;
ALTER TABLE deployments ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
DROP INDEX deployments_active;
CREATE UNIQUE INDEX deployments_active ON deployments (process_id)
    WHERE state IN ('DEPLOYING', 'PAUSED', 'CANCELING');
