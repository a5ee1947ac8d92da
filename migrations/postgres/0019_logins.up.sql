-- Codes that are good for one use, and log-ins that wait for somebody at another device, both by the digest of their
-- text. Whether people may have sessions inside instances, by app and by space.

CREATE TABLE one_time_codes (
    digest BYTEA PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    valid_until BIGINT NOT NULL
);
CREATE INDEX one_time_codes_user ON one_time_codes (user_id, kind);
CREATE INDEX one_time_codes_valid ON one_time_codes (valid_until);
CREATE TABLE device_logins (
    digest BYTEA PRIMARY KEY,
    user_code_digest BYTEA NOT NULL UNIQUE,
    client TEXT NOT NULL,
    user_id UUID REFERENCES users (id) ON DELETE CASCADE,
    denied BOOLEAN NOT NULL,
    interval_seconds BIGINT NOT NULL,
    polled_at BIGINT NOT NULL,
    valid_until BIGINT NOT NULL
);
CREATE INDEX device_logins_user ON device_logins (user_id);
CREATE INDEX device_logins_valid ON device_logins (valid_until);
ALTER TABLE apps ADD COLUMN ssh BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE spaces ADD COLUMN ssh BOOLEAN NOT NULL DEFAULT TRUE;
