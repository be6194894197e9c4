-- The words of the glossary. No later migration takes away what the release before it needs: expand first, contract a release later.
ALTER TABLE doomed RENAME TO quarantine;
ALTER TABLE quarantine RENAME COLUMN doomed_ms TO quarantined_ms;
ALTER TABLE quarantine DROP CONSTRAINT doomed_state_check;
UPDATE quarantine SET state = CASE state WHEN 'doomed' THEN 'quarantined' WHEN 'gone' THEN 'deleted' WHEN 'spared' THEN 'released' ELSE state END;
ALTER TABLE quarantine ADD CONSTRAINT quarantine_state_check CHECK (state IN ('quarantined', 'deleting', 'deleted', 'released'));
ALTER INDEX doomed_pkey RENAME TO quarantine_pkey;
ALTER INDEX doomed_due RENAME TO quarantine_due;
ALTER INDEX doomed_by_table RENAME TO quarantine_by_table;

ALTER TABLE orphan_sighting RENAME TO orphan_candidate;
ALTER TABLE output RENAME TO pending_output;
ALTER TABLE told RENAME TO delivered_state;
ALTER TABLE delivered_state RENAME COLUMN told_ms TO delivered_ms;
ALTER TABLE job RENAME COLUMN deaths TO worker_losses;
