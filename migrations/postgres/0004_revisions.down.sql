-- Undoes 0004.
DROP TABLE revisions;
