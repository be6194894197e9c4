-- Log-ins on the web page. Of the session's id and of the token that it was opened with, only the SHA-256 is here.
CREATE TABLE page_session (
    id_sha256 TEXT PRIMARY KEY,
    principal TEXT NOT NULL,
    token_sha256 TEXT NOT NULL, -- the session ends with this token
    csrf TEXT NOT NULL, -- the secret that each form of the session repeats
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX page_session_by_end ON page_session (expires_ms);
