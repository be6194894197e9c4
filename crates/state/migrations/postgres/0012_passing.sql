-- 1: the table could not be examined for a reason that may pass, such as a storage that does not answer.
ALTER TABLE table_health ADD COLUMN passing BIGINT NOT NULL DEFAULT 0;
