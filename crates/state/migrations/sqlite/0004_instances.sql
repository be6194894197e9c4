-- The server processes that live. What any other process has begun and not finished is finished or swept by them.
CREATE TABLE instance (
    id TEXT PRIMARY KEY,
    started_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
