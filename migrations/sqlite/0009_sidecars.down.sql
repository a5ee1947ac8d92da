-- Undoes 0009. What ran beside processes is forgotten until the next build.
ALTER TABLE droplets DROP COLUMN sidecars;
