-- Cells whose instances move away: how many at once, or 0.
ALTER TABLE cells ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
