-- The server to which the other servers send the commits of a table, since several of them lost swaps of it.
CREATE TABLE commit_lease (
    table_id TEXT PRIMARY KEY,
    server TEXT NOT NULL,                      -- the identifier of the process, as in the table instance
    address TEXT NOT NULL,                     -- where other servers reach it
    term INTEGER NOT NULL,                     -- grows with each taking; what was sent in an earlier term is not published
    until_ms INTEGER NOT NULL                  -- the time from which on any server may take it
) STRICT;
