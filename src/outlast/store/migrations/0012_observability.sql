-- What people decided about a group of equal errors. A group is unresolved as long as it has no row here.
CREATE TABLE error_groups (
    env_id BIGINT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    at BIGINT NOT NULL,
    version TEXT,
    until_at BIGINT,
    more BIGINT,
    per_hour BIGINT,
    reason TEXT,
    decided_by TEXT NOT NULL,
    PRIMARY KEY (env_id, id)
) {without_rowid};

-- somebody asked the worker of this session to finish and leave
ALTER TABLE sessions ADD COLUMN draining BIGINT NOT NULL DEFAULT 0;
