-- Quotas of organisations and of spaces. An organisation without one has the default, which is there from the start.

CREATE TABLE quotas (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    org_id UUID REFERENCES orgs (id) ON DELETE CASCADE,
    limits TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX quotas_of_orgs ON quotas (name) WHERE org_id IS NULL;
CREATE UNIQUE INDEX quotas_of_spaces ON quotas (org_id, name) WHERE org_id IS NOT NULL;
CREATE TABLE org_quotas (
    org_id UUID PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    quota_id UUID NOT NULL REFERENCES quotas (id)
);
CREATE INDEX org_quotas_quota ON org_quotas (quota_id);
CREATE TABLE space_quotas (
    space_id UUID PRIMARY KEY REFERENCES spaces (id) ON DELETE CASCADE,
    quota_id UUID NOT NULL REFERENCES quotas (id) ON DELETE CASCADE
);
CREATE INDEX space_quotas_quota ON space_quotas (quota_id);
INSERT INTO quotas (id, name, org_id, limits, created_at, updated_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'default', NULL, '{"paid_services":true}', 0, 0);
