-- Scan plans of which a server has to remember something: the request, if it is too long for the client to carry, and a cancellation.
CREATE TABLE scan_plan (
    id TEXT COLLATE "C" PRIMARY KEY,
    made_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,                -- what the row counts for in the bound of all rows
    cancelled BIGINT NOT NULL DEFAULT 0,
    request TEXT COLLATE "C" NOT NULL          -- JSON; empty: the client carries it, or the plan is cancelled
);
CREATE INDEX scan_plan_by_end ON scan_plan (expires_ms);
