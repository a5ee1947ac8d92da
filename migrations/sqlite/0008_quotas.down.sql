-- Undoes 0008.
DROP TABLE space_quotas;
DROP TABLE org_quotas;
DROP TABLE quotas;
