DROP TABLE buildpacks;
