DROP INDEX users_external;
DROP INDEX users_name;
DELETE FROM users WHERE origin <> 'uaa';
ALTER TABLE users DROP COLUMN external_id;
ALTER TABLE users DROP COLUMN origin;
CREATE UNIQUE INDEX users_name ON users (kind, lower(name));
