-- The number of changes of each server that the database has. A server that saw more of its own confirmed knows that some are lost.
CREATE TABLE server_changes (
    server TEXT COLLATE "C" PRIMARY KEY,       -- the identifier that the server keeps in its data directory
    changes BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL                    -- the time of the last change, or of the last start
);
