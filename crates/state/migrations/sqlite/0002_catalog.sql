-- Views and tables share one name space, so they share one table. `name_key` is what names are compared by: the name, or its
-- lower case in a warehouse that ignores case.
ALTER TABLE iceberg_table RENAME TO tabular;
ALTER TABLE tabular ADD COLUMN kind TEXT NOT NULL DEFAULT 'table' CHECK (kind IN ('table', 'view'));
ALTER TABLE tabular ADD COLUMN name_key TEXT NOT NULL DEFAULT '';
ALTER TABLE tabular ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
UPDATE tabular SET name_key = name;
CREATE UNIQUE INDEX tabular_by_key ON tabular (namespace_id, name_key);

ALTER TABLE warehouse ADD COLUMN case_insensitive INTEGER NOT NULL DEFAULT 0;

-- `parent` holds the parent's key.
ALTER TABLE namespace ADD COLUMN name_key TEXT NOT NULL DEFAULT '';
ALTER TABLE namespace ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;
UPDATE namespace SET name_key = name;
CREATE UNIQUE INDEX namespace_by_key ON namespace (warehouse_id, name_key);
DROP INDEX namespace_by_parent;
CREATE INDEX namespace_by_parent ON namespace (warehouse_id, parent, name_key);

-- Tables that were dropped and can still be brought back.
CREATE TABLE dropped_table (
    id TEXT PRIMARY KEY,
    warehouse_id INTEGER NOT NULL REFERENCES warehouse (id),
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    table_uuid TEXT NOT NULL,
    location TEXT NOT NULL,
    metadata_location TEXT NOT NULL,
    owned INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    purge INTEGER NOT NULL,     -- the client asked for the files to go as well
    dropped_by TEXT NOT NULL,
    dropped_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL -- after that it can't be brought back
) STRICT;
CREATE INDEX dropped_table_by_warehouse ON dropped_table (warehouse_id, dropped_ms);

-- What a request with an Idempotency-Key came to, for a client that did not hear the answer and asks again.
CREATE TABLE receipt (
    warehouse_id INTEGER NOT NULL,
    operation TEXT NOT NULL,    -- method and path
    key TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (warehouse_id, operation, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipt_by_age ON receipt (created_ms);

-- The out-box: every change, entered in the transaction that makes it. The id is the cursor of readers.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL,
    warehouse TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    principal TEXT NOT NULL,
    data TEXT NOT NULL,
    time_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX event_by_time ON event (time_ms);

-- How far each sink has come.
CREATE TABLE event_sink (name TEXT PRIMARY KEY, delivered INTEGER NOT NULL) STRICT;

-- SQL functions: the metadata as its maker gave it.
CREATE TABLE sql_function (
    namespace_id INTEGER NOT NULL REFERENCES namespace (id),
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    metadata TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (namespace_id, name_key)
) STRICT, WITHOUT ROWID;

-- Tokens handed out by the OAuth route.
CREATE TABLE access_token (
    token_sha256 TEXT PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principal (name) ON DELETE CASCADE,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Until now there was one warehouse, with the id 1.
ALTER TABLE doomed ADD COLUMN warehouse_id INTEGER NOT NULL DEFAULT 1;
ALTER TABLE output ADD COLUMN warehouse_id INTEGER NOT NULL DEFAULT 1;
