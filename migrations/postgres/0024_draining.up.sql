-- Cells whose instances move away: how many at once, or 0.
ALTER TABLE cells ADD COLUMN draining BIGINT NOT NULL DEFAULT 0;
