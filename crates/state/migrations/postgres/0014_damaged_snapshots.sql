-- The earlier snapshot that leads to the file, where the current one does not.
ALTER TABLE damaged_file ADD COLUMN snapshot_id BIGINT;
