-- Files of a table's current snapshot that somebody could not read, until they can be or are no longer part of it.
CREATE TABLE damaged_file (
    table_id TEXT NOT NULL,
    path TEXT NOT NULL,
    -- 1: gone; 0: there, and not what its metadata says.
    missing INTEGER NOT NULL,
    error TEXT NOT NULL,
    met_by TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    PRIMARY KEY (table_id, path)
) STRICT, WITHOUT ROWID;

-- What was found out before says nothing of properties that can't be read: every table is looked at again.
DELETE FROM table_health;
