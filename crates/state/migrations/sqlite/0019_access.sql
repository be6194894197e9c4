-- The rules of access control: their version and mode, roles with members, grants, and the owners of tables and views.
-- A text that does not apply is empty, a number that does not is 0: so rows are compared without nulls.
CREATE TABLE access_state (
    id INTEGER PRIMARY KEY,     -- 1: the table has one row
    version INTEGER NOT NULL,   -- grows with each change of the rules
    mode TEXT NOT NULL,         -- off, report or on
    mode_ms INTEGER NOT NULL    -- the time at which the mode was set; 0: it never was
) STRICT;
INSERT INTO access_state (id, version, mode, mode_ms) VALUES (1, 1, 'off', 0);

-- The roles that people create. Those whose names begin with esker: always exist and are not here.
CREATE TABLE access_role (
    name TEXT PRIMARY KEY,
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE access_member (
    role TEXT NOT NULL,
    member_kind TEXT NOT NULL,  -- user, client, claim or role
    member_issuer TEXT NOT NULL,
    member_name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (role, member_kind, member_issuer, member_name)
) STRICT;

CREATE TABLE access_grant (
    id TEXT PRIMARY KEY,
    member_kind TEXT NOT NULL,
    member_issuer TEXT NOT NULL,
    member_name TEXT NOT NULL,
    on_kind TEXT NOT NULL,      -- server, warehouse, namespace, table, view or function
    warehouse_id INTEGER NOT NULL,
    namespace TEXT NOT NULL,    -- the levels, joined by the unit separator, as the table namespace has them
    table_id TEXT NOT NULL,     -- of a table or view
    function_name TEXT NOT NULL,
    privileges INTEGER NOT NULL, -- a bit for each privilege
    future_kind TEXT NOT NULL,  -- the kind of the things that get a copy when they are created
    copied_from TEXT NOT NULL,  -- the grant on future things that this one is a copy of
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX access_grant_by_table ON access_grant (table_id);
CREATE INDEX access_grant_by_namespace ON access_grant (warehouse_id, namespace);
CREATE INDEX access_grant_by_future ON access_grant (future_kind);

CREATE TABLE tabular_owner (
    table_id TEXT PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner_issuer TEXT NOT NULL,
    owner_name TEXT NOT NULL
) STRICT;
