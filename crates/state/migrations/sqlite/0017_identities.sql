-- Tokens of principals, as SHA-256: those that people make, and those that the OAuth route issues in exchange.
-- A token that people make is the root of its chain: its root_id is its id. An issued token has the root_id of the token that was
-- exchanged. The root may also be a token of the table principal; then root_id is its token_sha256.
CREATE TABLE api_token (
    id TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    principal_kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    label TEXT NOT NULL,
    root_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,         -- null: the token does not end
    root_expires_ms INTEGER,    -- the time at which every token of the chain has ended
    revoked_ms INTEGER,
    last_used_ms INTEGER        -- at most a minute behind
) STRICT;
CREATE INDEX api_token_by_root ON api_token (root_id);
CREATE INDEX api_token_by_end ON api_token (expires_ms);

-- The principal of the request, with its kind. It is empty in receipts that an earlier release wrote.
-- If two principals use one key, the second one's receipt has its principal behind the key as well: the primary key lacks it.
ALTER TABLE receipt ADD COLUMN principal TEXT NOT NULL DEFAULT '';
