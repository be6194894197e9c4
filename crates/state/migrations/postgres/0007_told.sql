-- What a receiver was last told of something, as a fingerprint: it is told again when that is another one.
CREATE TABLE told (
    receiver TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT NOT NULL,
    told_ms BIGINT NOT NULL,
    PRIMARY KEY (receiver, subject)
);
