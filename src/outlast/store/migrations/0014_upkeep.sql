-- When some server last did a duty of upkeep that must be noticed when nobody does it.
CREATE TABLE upkeep (
    duty TEXT PRIMARY KEY,
    done_at BIGINT NOT NULL
);
