-- Undoes 0006. The schema before knows no pause.
UPDATE deployments SET state = 'CANCELED' WHERE state = 'PAUSED';
DROP INDEX deployments_active;
CREATE UNIQUE INDEX deployments_active ON deployments (process_id) WHERE state IN ('DEPLOYING', 'CANCELING');
ALTER TABLE deployments DROP COLUMN metadata;
ALTER TABLE deployments DROP COLUMN revision_version;
ALTER TABLE deployments DROP COLUMN revision_id;
ALTER TABLE deployments DROP COLUMN canary;
