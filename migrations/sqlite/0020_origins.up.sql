-- Where users sign in, and what the identity provider there knows them by. A name is one user's at each.
ALTER TABLE users ADD COLUMN origin TEXT NOT NULL DEFAULT 'uaa';
ALTER TABLE users ADD COLUMN external_id TEXT;
DROP INDEX users_name;
CREATE UNIQUE INDEX users_name ON users (kind, origin, lower(name));
CREATE UNIQUE INDEX users_external ON users (origin, external_id);
