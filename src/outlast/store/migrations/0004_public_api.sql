-- unix seconds: public tokens of the environment that were issued before are refused
ALTER TABLE environments ADD COLUMN tokens_not_before BIGINT NOT NULL DEFAULT 0;

-- a batch whose items did not all arrive in time
ALTER TABLE batches ADD COLUMN aborted_at BIGINT;
