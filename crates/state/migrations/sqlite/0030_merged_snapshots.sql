-- Snapshots of late commits that were merged, so that a request that comes again is known after its snapshot has expired.
CREATE TABLE merged_snapshot (
    table_id TEXT NOT NULL,
    snapshot_id INTEGER NOT NULL,
    branch TEXT NOT NULL,
    manifest_list TEXT NOT NULL,               -- the name of the list that the client sent, without directories
    merged_ms INTEGER NOT NULL,
    PRIMARY KEY (table_id, snapshot_id)
) STRICT;
CREATE INDEX merged_snapshot_by_time ON merged_snapshot (merged_ms);
