-- Where sandboxes may connect to, and the spaces for which that holds.

CREATE TABLE security_groups (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    rules TEXT NOT NULL,
    running BOOLEAN NOT NULL,
    staging BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX security_groups_name ON security_groups (name);

CREATE TABLE security_group_spaces (
    group_id UUID NOT NULL REFERENCES security_groups (id) ON DELETE CASCADE,
    space_id UUID NOT NULL REFERENCES spaces (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    PRIMARY KEY (group_id, space_id, purpose)
);
CREATE INDEX security_group_spaces_space ON security_group_spaces (space_id);
