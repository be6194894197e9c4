-- What a table's metadata says about its shape, by the metadata file that it was read from.
CREATE TABLE table_health (
    table_id TEXT COLLATE "C" PRIMARY KEY,
    metadata_location TEXT NOT NULL,
    -- As JSON; none where they can't be read, and then why.
    facts TEXT,
    error TEXT,
    assessed_ms BIGINT NOT NULL
);

-- One row for each ten minutes in which a table changed.
CREATE TABLE health_history (
    table_id TEXT COLLATE "C" NOT NULL,
    time_ms BIGINT NOT NULL,
    score BIGINT NOT NULL,
    shape TEXT NOT NULL,
    PRIMARY KEY (table_id, time_ms)
);

-- What engines reported of their scans and commits, a day.
CREATE TABLE table_use (
    table_id TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    scans BIGINT NOT NULL DEFAULT 0,
    scanned_files BIGINT NOT NULL DEFAULT 0,
    scanned_deletes BIGINT NOT NULL DEFAULT 0,
    planning_ms BIGINT NOT NULL DEFAULT 0,
    commits BIGINT NOT NULL DEFAULT 0,
    commit_attempts BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (table_id, day)
);

-- What the autopilot last thought of a table, as JSON.
CREATE TABLE table_decision (
    table_id TEXT COLLATE "C" PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    decision TEXT NOT NULL
);
