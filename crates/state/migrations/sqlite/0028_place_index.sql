-- What lies at, around and below a directory is looked up by path, in a few steps however many tables there are. Texts compare by
-- their bytes: all that is below `d` lies between `d/` and `d0`, because the digit 0 comes right after the slash.
CREATE INDEX place_by_location ON place (location, table_id);
CREATE INDEX tabular_by_location ON tabular (location);
CREATE INDEX tabular_by_uuid ON tabular (table_uuid, id);
CREATE INDEX dropped_table_by_uuid ON dropped_table (table_uuid, id);
-- A page of one kind of entries, and the tables that changed lately.
CREATE INDEX tabular_by_kind ON tabular (namespace_id, kind, name_key);
CREATE INDEX tabular_by_update ON tabular (updated_ms);
-- The dropped tables whose time is over, and the tables whose assessment failed.
CREATE INDEX dropped_table_by_end ON dropped_table (warehouse_id, expires_ms, id);
CREATE INDEX table_health_failed ON table_health (assessed_ms) WHERE facts IS NULL;
-- The score of the last assessment, by which the worst tables are found; -1 for a table without facts. It orders tables only: what is
-- shown is assessed at the time of the look.
ALTER TABLE table_health ADD COLUMN score INTEGER NOT NULL DEFAULT -1;
UPDATE table_health SET score = coalesce(
    (SELECT h.score FROM health_history h WHERE h.table_id = table_health.table_id ORDER BY h.time_ms DESC LIMIT 1), -1)
WHERE facts IS NOT NULL;
CREATE INDEX table_health_by_score ON table_health (score, table_id);
-- The jobs of the autopilot in the last day.
CREATE INDEX job_by_principal ON job (principal, started_ms);
CREATE INDEX job_by_principal_end ON job (principal, finished_ms);
-- History, use and jobs that are older than they are kept.
CREATE INDEX job_by_end ON job (finished_ms);
CREATE INDEX health_history_by_time ON health_history (time_ms);
CREATE INDEX table_use_by_day ON table_use (day);
