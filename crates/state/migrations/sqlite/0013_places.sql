-- Where a table or view has files, or had them: each location that it ever had, and each path that its properties ever named.
-- Snapshots go on leading to files in places that their table left.
CREATE TABLE place (
    table_id TEXT NOT NULL,
    location TEXT NOT NULL,
    PRIMARY KEY (table_id, location)
) STRICT, WITHOUT ROWID;
INSERT INTO place (table_id, location) SELECT id, location FROM tabular;
INSERT INTO place (table_id, location) SELECT id, location FROM dropped_table;
