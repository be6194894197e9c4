-- What a file in quarantine was. Earlier versions knew an orphan by the job that found it, and by its reason.
ALTER TABLE doomed ADD COLUMN kind TEXT NOT NULL DEFAULT 'own';
UPDATE doomed SET kind = 'orphan'
WHERE job_id IN (SELECT id FROM job WHERE kind = 'orphans') OR reason = 'no snapshot, statistics entry, metadata log or job refers to it';
