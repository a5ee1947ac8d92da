-- Buildpacks in the order in which they are tried. A built-in one has a row only once an operator changed something of it.
CREATE TABLE buildpacks (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    -- Empty: of any stack.
    stack TEXT NOT NULL,
    position INTEGER NOT NULL,
    enabled BOOLEAN NOT NULL,
    locked BOOLEAN NOT NULL,
    -- Name of the built-in one that this is.
    builtin TEXT,
    filename TEXT,
    digest TEXT,
    size_bytes INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (name, stack)
);
