-- Row filters and column masks of tables. They end with their table.
CREATE TABLE access_row_filter (
    id TEXT PRIMARY KEY,
    table_id TEXT NOT NULL,
    member_kind TEXT NOT NULL,  -- user, client, claim or role
    member_issuer TEXT NOT NULL,
    member_name TEXT NOT NULL,
    filter TEXT NOT NULL,       -- an expression of Iceberg with field ids, as JSON
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX access_row_filter_by_table ON access_row_filter (table_id);

CREATE TABLE access_column_mask (
    table_id TEXT NOT NULL,
    field_id INTEGER NOT NULL,
    action TEXT NOT NULL,
    exempt TEXT NOT NULL,       -- the members that see the values as they are, as a JSON array
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (table_id, field_id)
) STRICT;
