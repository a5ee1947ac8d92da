-- Undoes 0018. All work is placed anywhere again.
DROP TABLE space_segments;
DROP TABLE org_segments;
DROP TABLE entitled_orgs;
DROP TABLE isolation_segments;
