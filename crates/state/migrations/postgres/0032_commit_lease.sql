-- The server to which the other servers send the commits of a table, since several of them lost swaps of it.
CREATE TABLE commit_lease (
    table_id TEXT COLLATE "C" PRIMARY KEY,
    server TEXT COLLATE "C" NOT NULL,          -- the identifier of the process, as in the table instance
    address TEXT COLLATE "C" NOT NULL,         -- where other servers reach it
    term BIGINT NOT NULL,                      -- grows with each taking; what was sent in an earlier term is not published
    until_ms BIGINT NOT NULL                   -- the time from which on any server may take it
);
