-- Machines that prove themselves by certificates: tokens to join with, by the digest of their secret; who has joined; and
-- where controllers are, for those that join.

CREATE TABLE join_tokens (
    id UUID PRIMARY KEY,
    digest BYTEA NOT NULL,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    max_memory_mb BIGINT,
    created_at BIGINT NOT NULL,
    valid_until BIGINT NOT NULL,
    used_at BIGINT,
    machine_id UUID
);
CREATE TABLE machines (
    id UUID NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    max_memory_mb BIGINT,
    key_digest BYTEA NOT NULL,
    joined_at BIGINT NOT NULL,
    certificate_until BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (role, id)
);
CREATE TABLE controllers (
    address TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL
);
