-- taken: how many records the waits of this journal of the run have been given
CREATE TABLE streams (
    run_id TEXT NOT NULL,
    key TEXT NOT NULL,
    env_id BIGINT NOT NULL,
    next_seq BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    journal BIGINT NOT NULL,
    taken BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (run_id, key)
) {without_rowid};
CREATE INDEX streams_by_time ON streams (created_at);

-- a row holds the records of one write, up to some 64 KB: seq is that of the first, n their number
CREATE TABLE stream_records (
    run_id TEXT NOT NULL,
    key TEXT NOT NULL,
    seq BIGINT NOT NULL,
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run_id, key, seq)
) {without_rowid};

-- how far each writer has come, so that what it sends again is dropped
CREATE TABLE stream_writers (
    run_id TEXT NOT NULL,
    key TEXT NOT NULL,
    writer TEXT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (run_id, key, writer)
) {without_rowid};
