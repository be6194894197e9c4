-- Snapshots of late commits that were merged, so that a request that comes again is known after its snapshot has expired.
CREATE TABLE merged_snapshot (
    table_id TEXT COLLATE "C" NOT NULL,
    snapshot_id BIGINT NOT NULL,
    branch TEXT COLLATE "C" NOT NULL,
    manifest_list TEXT COLLATE "C" NOT NULL,   -- the name of the list that the client sent, without directories
    merged_ms BIGINT NOT NULL,
    PRIMARY KEY (table_id, snapshot_id)
);
CREATE INDEX merged_snapshot_by_time ON merged_snapshot (merged_ms);
