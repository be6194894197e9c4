-- The audit trail, until its records are in the Iceberg table or their time is over. Rows are added and removed, never changed,
-- but for `batch`.
CREATE TABLE audit_record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    record TEXT NOT NULL, -- as JSON
    batch TEXT NOT NULL DEFAULT '' -- the rows that move to the Iceberg table in one commit; empty: not in a batch yet
) STRICT;
CREATE INDEX audit_record_by_time ON audit_record (time_ms);
CREATE INDEX audit_record_by_batch ON audit_record (batch, id);
