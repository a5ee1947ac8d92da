-- Isolation segments: which organisations may use them, and whose work is placed in them. The shared one is there from
-- the start: work in it is placed where no other segment is.

CREATE TABLE isolation_segments (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX isolation_segments_name ON isolation_segments (lower(name));
CREATE TABLE entitled_orgs (
    segment_id UUID NOT NULL REFERENCES isolation_segments (id),
    org_id UUID NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    PRIMARY KEY (segment_id, org_id)
);
CREATE INDEX entitled_orgs_org ON entitled_orgs (org_id);
CREATE TABLE org_segments (
    org_id UUID PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    segment_id UUID NOT NULL REFERENCES isolation_segments (id)
);
CREATE INDEX org_segments_segment ON org_segments (segment_id);
CREATE TABLE space_segments (
    space_id UUID PRIMARY KEY REFERENCES spaces (id) ON DELETE CASCADE,
    segment_id UUID NOT NULL REFERENCES isolation_segments (id)
);
CREATE INDEX space_segments_segment ON space_segments (segment_id);
INSERT INTO isolation_segments (id, name, metadata, created_at, updated_at)
VALUES ('933b4c58-120b-499a-b85d-4b6fc9e2903b', 'shared', '{}', 0, 0);
