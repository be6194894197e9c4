-- Access policies: rules with conditions, in the language Cedar, which count beside the grants.
CREATE TABLE access_policy (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL,         -- one or more policies of the language
    changed_by TEXT NOT NULL,
    changed_ms INTEGER NOT NULL
) STRICT;
