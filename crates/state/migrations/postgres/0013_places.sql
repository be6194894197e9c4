-- Where a table or view has files, or had them: each location that it ever had, and each path that its properties ever named.
-- Snapshots go on leading to files in places that their table left.
CREATE TABLE place (
    table_id TEXT COLLATE "C" NOT NULL,
    location TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (table_id, location)
);
INSERT INTO place (table_id, location) SELECT id, location FROM tabular;
INSERT INTO place (table_id, location) SELECT id, location FROM dropped_table;
