-- The identity that asked for a job, as JSON, with the groups and roles that its token had then; null for a job of Esker's own. Its
-- rights are asked again when the job begins.
ALTER TABLE job ADD COLUMN asker TEXT;
