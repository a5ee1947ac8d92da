-- What operators bill by: one sequence of commits, as events have. `process_usage` is what was told last of each process
-- that runs; what ran before this migration is told with its next change, or when the events are made anew.

CREATE TABLE usage_events (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX usage_events_id ON usage_events (id);
CREATE INDEX usage_events_kind ON usage_events (kind, sequence);
CREATE TABLE process_usage (
    process_id BLOB PRIMARY KEY,
    app_id BLOB NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX process_usage_app ON process_usage (app_id);
INSERT INTO counters (name, value) VALUES ('usage_events', 0);
