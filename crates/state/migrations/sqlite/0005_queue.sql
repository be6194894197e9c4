-- Jobs wait in a queue, from which any server takes them. What a job of an earlier release was asked to do is not known.
ALTER TABLE job RENAME TO job_before;
DROP INDEX job_by_table;
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    warehouse_id INTEGER NOT NULL,
    table_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    -- Why it is there, for people.
    reason TEXT NOT NULL,
    -- Who asks for the same job twice gets the same job.
    key TEXT,
    -- What is to be done, as JSON.
    request TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    -- Not before.
    due_ms INTEGER NOT NULL,
    -- How often it was begun, and how often its server died of it or with it.
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    -- The server that it runs on; the lease lasts as long as the server is among the living.
    instance TEXT,
    -- The plan of the last attempt, and those of the attempts before as a JSON array.
    plan TEXT,
    earlier_plans TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    cancelled_by TEXT,
    outcome TEXT,
    error TEXT,
    -- What it was expected to gain, and what it gained, as JSON.
    predicted TEXT,
    measured TEXT,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    finished_ms INTEGER
) STRICT;
INSERT INTO job (id, warehouse_id, table_id, table_name, kind, principal, reason, request, priority, state, due_ms, attempts, instance, plan,
                 outcome, error, created_ms, started_ms, finished_ms)
SELECT id, coalesce((SELECT n.warehouse_id FROM tabular t JOIN namespace n ON n.id = t.namespace_id WHERE t.id = table_id), 1), table_id,
       table_name, kind, principal, 'asked for', 'null', 0, CASE state WHEN 'succeeded' THEN 'succeeded' ELSE 'failed' END, created_ms, 1,
       instance, plan, outcome, CASE state WHEN 'running' THEN 'the server stopped before the job ended' ELSE error END, created_ms,
       created_ms, coalesce(finished_ms, created_ms)
FROM job_before;
DROP TABLE job_before;
CREATE INDEX job_by_table ON job (table_id, created_ms);
CREATE INDEX job_by_age ON job (created_ms);
CREATE INDEX job_waiting ON job (state, priority, due_ms);
CREATE UNIQUE INDEX job_by_key ON job (warehouse_id, key);
-- One job a table at a time, whatever a server believes.
CREATE UNIQUE INDEX job_at_work ON job (table_id) WHERE state = 'running';

CREATE TABLE job_log (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
