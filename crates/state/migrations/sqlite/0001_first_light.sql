-- Times are milliseconds since the Unix epoch. Names of namespaces join their levels with U+001F.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE principal (
    name TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE warehouse (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    location TEXT NOT NULL
) STRICT;

CREATE TABLE namespace (
    id INTEGER PRIMARY KEY,
    warehouse_id INTEGER NOT NULL REFERENCES warehouse (id),
    name TEXT NOT NULL,
    parent TEXT NOT NULL, -- '' for the outermost
    properties TEXT NOT NULL,
    UNIQUE (warehouse_id, name)
) STRICT;
CREATE INDEX namespace_by_parent ON namespace (warehouse_id, parent, name);

-- The pointer row: what a commit compares and swaps is metadata_location.
CREATE TABLE iceberg_table (
    id TEXT PRIMARY KEY,
    namespace_id INTEGER NOT NULL REFERENCES namespace (id),
    name TEXT NOT NULL,
    table_uuid TEXT NOT NULL,
    location TEXT NOT NULL,
    metadata_location TEXT NOT NULL,
    owned INTEGER NOT NULL, -- 0: foreign, nothing destructive happens to it
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (namespace_id, name)
) STRICT;

-- Files about to be written, recorded before the first byte and forgotten in the transaction that commits them.
CREATE TABLE output (
    path TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    job_id TEXT,            -- null: a metadata file of a commit
    instance TEXT NOT NULL, -- the server process that writes it
    recorded_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX output_by_job ON output (job_id);

-- Quarantine. A row outlives its file, as the record of what was deleted and why.
CREATE TABLE doomed (
    path TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    table_uuid TEXT NOT NULL,
    table_location TEXT NOT NULL,
    job_id TEXT,
    reason TEXT NOT NULL,
    bytes INTEGER,
    state TEXT NOT NULL CHECK (state IN ('doomed', 'deleting', 'gone', 'spared')),
    note TEXT,
    doomed_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX doomed_due ON doomed (state, due_ms);
CREATE INDEX doomed_by_table ON doomed (table_id, state);

CREATE TABLE job (
    id TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    instance TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'interrupted')),
    plan TEXT NOT NULL,
    outcome TEXT,
    error TEXT,
    created_ms INTEGER NOT NULL,
    finished_ms INTEGER
) STRICT;
CREATE INDEX job_by_table ON job (table_id, created_ms);

CREATE TABLE metrics_report (
    id INTEGER PRIMARY KEY,
    table_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    body TEXT NOT NULL,
    received_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX metrics_report_by_table ON metrics_report (table_id, id);
