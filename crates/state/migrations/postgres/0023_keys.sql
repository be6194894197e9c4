-- The keys with which servers authenticate what clients carry for them: tickets and handles of Flight SQL, tasks of scan plans.
CREATE TABLE signing_key (
    id TEXT COLLATE "C" PRIMARY KEY,
    purpose TEXT COLLATE "C" NOT NULL,
    material TEXT COLLATE "C" NOT NULL,     -- base64: the key, or the key encrypted with a master key
    master_key TEXT COLLATE "C" NOT NULL,   -- the id of that master key; empty: the material is not encrypted
    created_ms BIGINT NOT NULL,
    retiring_ms BIGINT,                     -- null: the key signs
    ends_ms BIGINT                          -- the time at which a key that no longer signs verifies nothing either
);
CREATE UNIQUE INDEX signing_key_active ON signing_key (purpose) WHERE retiring_ms IS NULL;
