-- Undoes 0005.
DROP TABLE security_group_spaces;
DROP TABLE security_groups;
