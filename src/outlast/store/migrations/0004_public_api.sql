-- unix seconds: public tokens of the environment that were issued before are refused
ALTER TABLE environments ADD COLUMN tokens_not_before BIGINT NOT NULL DEFAULT 0;

-- a batch whose items did not all arrive in time
ALTER TABLE batches ADD COLUMN aborted_at BIGINT;

-- what clients uploaded: the row is made when all of it is in the payload store, which holds the bytes under the id
CREATE TABLE packets (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX packets_by_age ON packets (created_at);
