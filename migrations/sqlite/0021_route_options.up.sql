-- How requests of a route are spread, as JSON, and what the instances of a destination speak.
ALTER TABLE routes ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
ALTER TABLE destinations ADD COLUMN protocol TEXT NOT NULL DEFAULT 'http1';
