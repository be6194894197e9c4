-- Files of a table's current snapshot that somebody could not read, until they can be or are no longer part of it.
CREATE TABLE damaged_file (
    table_id TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    -- 1: gone; 0: there, and not what its metadata says.
    missing BIGINT NOT NULL,
    error TEXT NOT NULL,
    met_by TEXT NOT NULL,
    first_seen_ms BIGINT NOT NULL,
    PRIMARY KEY (table_id, path)
);

-- What was found out before says nothing of properties that can't be read: every table is looked at again.
DELETE FROM table_health;
