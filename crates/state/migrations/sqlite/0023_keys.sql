-- The keys with which servers authenticate what clients carry for them: tickets and handles of Flight SQL, tasks of scan plans.
CREATE TABLE signing_key (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    material TEXT NOT NULL,     -- base64: the key, or the key encrypted with a master key
    master_key TEXT NOT NULL,   -- the id of that master key; empty: the material is not encrypted
    created_ms INTEGER NOT NULL,
    retiring_ms INTEGER,        -- null: the key signs
    ends_ms INTEGER             -- the time at which a key that no longer signs verifies nothing either
) STRICT;
CREATE UNIQUE INDEX signing_key_active ON signing_key (purpose) WHERE retiring_ms IS NULL;
