-- What a receiver was last told of something, as a fingerprint: it is told again when that is another one.
CREATE TABLE told (
    receiver TEXT NOT NULL,
    subject TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    told_ms INTEGER NOT NULL,
    PRIMARY KEY (receiver, subject)
) STRICT, WITHOUT ROWID;
