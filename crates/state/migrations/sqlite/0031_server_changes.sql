-- The number of changes of each server that the database has. A server that saw more of its own confirmed knows that some are lost.
CREATE TABLE server_changes (
    server TEXT PRIMARY KEY,                   -- the identifier that the server keeps in its data directory
    changes INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL                   -- the time of the last change, or of the last start
) STRICT;
