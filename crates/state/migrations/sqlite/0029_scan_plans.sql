-- Scan plans of which a server has to remember something: the request, if it is too long for the client to carry, and a cancellation.
CREATE TABLE scan_plan (
    id TEXT PRIMARY KEY,
    made_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,               -- what the row counts for in the bound of all rows
    cancelled INTEGER NOT NULL DEFAULT 0,
    request TEXT NOT NULL                      -- JSON; empty: the client carries it, or the plan is cancelled
) STRICT;
CREATE INDEX scan_plan_by_end ON scan_plan (expires_ms);
