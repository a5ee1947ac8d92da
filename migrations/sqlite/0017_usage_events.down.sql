-- Undoes 0017. What was in use when is forgotten.
DELETE FROM counters WHERE name = 'usage_events';
DROP TABLE process_usage;
DROP TABLE usage_events;
