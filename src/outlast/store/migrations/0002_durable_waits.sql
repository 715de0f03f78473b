ALTER TABLE runs ADD COLUMN resuming SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN journal BIGINT NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN executor TEXT;
ALTER TABLE runs ADD COLUMN seen_seq BIGINT NOT NULL DEFAULT 0;

DROP TABLE journal;
-- id: run, journal and key in one text, so that a flush finds the entries of many runs by one list
CREATE TABLE journal (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    journal BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    label TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL,
    seq BIGINT,
    value TEXT,
    value_type TEXT,
    ref TEXT,
    location TEXT NOT NULL
);
CREATE INDEX journal_by_run ON journal (run_id, journal, seq);

DROP TABLE waitpoints;
CREATE TABLE waitpoints (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    value TEXT,
    tags TEXT NOT NULL,
    idempotency_key TEXT,
    idempotency_expires_at BIGINT,
    timeout_at BIGINT,
    created_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE INDEX waitpoints_by_env ON waitpoints (env_id, id);
