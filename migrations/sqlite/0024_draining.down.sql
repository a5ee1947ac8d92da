-- Undoes 0024. What is left on a cell stays there, as it is cordoned all the same.
ALTER TABLE cells DROP COLUMN draining;
