-- Files that a look for orphans found to belong to nothing, since when, and when they were last found so.
CREATE TABLE orphan_sighting (
    path TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orphan_sighting_by_table ON orphan_sighting (table_id, last_ms);
