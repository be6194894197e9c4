-- The SCRAM-SHA-256 verifier of a token that a person made, as PostgreSQL writes verifiers (RFC 5803). Null: an issued token, or one of
-- an earlier release.
ALTER TABLE api_token ADD COLUMN scram_sha_256 TEXT;
