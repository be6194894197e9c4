-- Access policies: rules with conditions, in the language Cedar, which count beside the grants.
CREATE TABLE access_policy (
    name TEXT COLLATE "C" PRIMARY KEY,
    text TEXT COLLATE "C" NOT NULL,         -- one or more policies of the language
    changed_by TEXT COLLATE "C" NOT NULL,
    changed_ms BIGINT NOT NULL
);
