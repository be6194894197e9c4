-- The words of the glossary. No later migration takes away what the release before it needs: expand first, contract a release later.
CREATE TABLE quarantine (
    path TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    table_uuid TEXT NOT NULL,
    table_location TEXT NOT NULL,
    job_id TEXT,
    reason TEXT NOT NULL,
    bytes INTEGER,
    state TEXT NOT NULL CHECK (state IN ('quarantined', 'deleting', 'deleted', 'released')),
    note TEXT,
    quarantined_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    warehouse_id INTEGER NOT NULL DEFAULT 1,
    kind TEXT NOT NULL DEFAULT 'own'
) STRICT;
INSERT INTO quarantine (path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes, state, note, quarantined_ms, due_ms,
                        changed_ms, warehouse_id, kind)
SELECT path, table_id, table_name, table_uuid, table_location, job_id, reason, bytes,
       CASE state WHEN 'doomed' THEN 'quarantined' WHEN 'gone' THEN 'deleted' WHEN 'spared' THEN 'released' ELSE state END, note, doomed_ms,
       due_ms, changed_ms, warehouse_id, kind
FROM doomed;
DROP TABLE doomed;
CREATE INDEX quarantine_due ON quarantine (state, due_ms);
CREATE INDEX quarantine_by_table ON quarantine (table_id, state);

ALTER TABLE orphan_sighting RENAME TO orphan_candidate;
ALTER TABLE output RENAME TO pending_output;
ALTER TABLE told RENAME TO delivered_state;
ALTER TABLE delivered_state RENAME COLUMN told_ms TO delivered_ms;
ALTER TABLE job RENAME COLUMN deaths TO worker_losses;
