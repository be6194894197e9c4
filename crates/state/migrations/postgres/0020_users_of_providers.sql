-- The user of an identity provider that a token was issued to: principal_kind is then 'user', and principal the name at the issuer.
-- The root of such a chain is the first token that was issued in exchange for one of the provider.
ALTER TABLE api_token ADD COLUMN issuer TEXT COLLATE "C" NOT NULL DEFAULT '';
-- The groups and roles in the provider's token, as a JSON array of texts.
ALTER TABLE api_token ADD COLUMN claims TEXT COLLATE "C" NOT NULL DEFAULT '[]';
