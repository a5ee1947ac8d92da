-- Undoes 0002.
DROP TABLE service_bindings;
DROP TABLE service_instances;
