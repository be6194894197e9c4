-- What a table's metadata says about its shape, by the metadata file that it was read from.
CREATE TABLE table_health (
    table_id TEXT PRIMARY KEY,
    metadata_location TEXT NOT NULL,
    -- As JSON; none where they can't be read, and then why.
    facts TEXT,
    error TEXT,
    assessed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each ten minutes in which a table changed.
CREATE TABLE health_history (
    table_id TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    score INTEGER NOT NULL,
    shape TEXT NOT NULL,
    PRIMARY KEY (table_id, time_ms)
) STRICT, WITHOUT ROWID;

-- What engines reported of their scans and commits, a day.
CREATE TABLE table_use (
    table_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    scans INTEGER NOT NULL DEFAULT 0,
    scanned_files INTEGER NOT NULL DEFAULT 0,
    scanned_deletes INTEGER NOT NULL DEFAULT 0,
    planning_ms INTEGER NOT NULL DEFAULT 0,
    commits INTEGER NOT NULL DEFAULT 0,
    commit_attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (table_id, day)
) STRICT, WITHOUT ROWID;

-- What the autopilot last thought of a table, as JSON.
CREATE TABLE table_decision (
    table_id TEXT PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    decision TEXT NOT NULL
) STRICT, WITHOUT ROWID;
