-- Buildpacks in the order in which they are tried. A built-in one has a row only once an operator changed something of it.
CREATE TABLE buildpacks (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    -- Empty: of any stack.
    stack TEXT NOT NULL,
    position BIGINT NOT NULL,
    enabled BOOLEAN NOT NULL,
    locked BOOLEAN NOT NULL,
    -- Name of the built-in one that this is.
    builtin TEXT,
    filename TEXT,
    digest TEXT,
    size_bytes BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (name, stack)
);
