-- A job that another engine is to do: handed over by the server that planned it. A worker outside takes it, and keeps it for as long as it
-- renews its lease.
ALTER TABLE job ADD COLUMN engine TEXT;
ALTER TABLE job ADD COLUMN worker TEXT;
ALTER TABLE job ADD COLUMN lease_ms INTEGER;
