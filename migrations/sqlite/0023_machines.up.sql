-- Machines that prove themselves by certificates: tokens to join with, by the digest of their secret; who has joined; and
-- where controllers are, for those that join.

CREATE TABLE join_tokens (
    id BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    max_memory_mb INTEGER,
    created_at INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    used_at INTEGER,
    machine_id BLOB
);
CREATE TABLE machines (
    id BLOB NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    max_memory_mb INTEGER,
    key_digest BLOB NOT NULL,
    joined_at INTEGER NOT NULL,
    certificate_until INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (role, id)
);
CREATE TABLE controllers (
    address TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL
);
