-- Row filters and column masks of tables. They end with their table.
CREATE TABLE access_row_filter (
    id TEXT COLLATE "C" PRIMARY KEY,
    table_id TEXT COLLATE "C" NOT NULL,
    member_kind TEXT COLLATE "C" NOT NULL,  -- user, client, claim or role
    member_issuer TEXT COLLATE "C" NOT NULL,
    member_name TEXT COLLATE "C" NOT NULL,
    filter TEXT COLLATE "C" NOT NULL,       -- an expression of Iceberg with field ids, as JSON
    created_by TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX access_row_filter_by_table ON access_row_filter (table_id);

CREATE TABLE access_column_mask (
    table_id TEXT COLLATE "C" NOT NULL,
    field_id BIGINT NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    exempt TEXT COLLATE "C" NOT NULL,       -- the members that see the values as they are, as a JSON array
    created_by TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (table_id, field_id)
);
