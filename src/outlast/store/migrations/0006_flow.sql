-- nothing of these was used before
DROP TABLE schedules;
DROP TABLE ticks;
DROP TABLE debounce;
DROP TABLE env_vars;

-- next_at is the next nominal time, due_at when it fires; both are null while the schedule is inactive
CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    type TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    deduplication_key TEXT,
    external_id TEXT,
    window_ TEXT,
    overlap TEXT NOT NULL,
    catch_up TEXT NOT NULL,
    active SMALLINT NOT NULL,
    pause_reason TEXT,
    revision BIGINT NOT NULL,
    next_at BIGINT,
    due_at BIGINT,
    last_at BIGINT,
    last_run_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (env_id, deduplication_key)
);
CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_by_env ON schedules (env_id, id);
CREATE UNIQUE INDEX schedules_declared ON schedules (env_id, task) WHERE type = 'DECLARATIVE';

CREATE TABLE ticks (
    schedule_id TEXT NOT NULL,
    nominal_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    run_id TEXT,
    reason TEXT,
    PRIMARY KEY (schedule_id, nominal_at)
) {without_rowid};
CREATE INDEX ticks_by_time ON ticks (at);

-- who may run of what runs one at a time: the holder of a gate, and those that wait for it in order of their ids
CREATE TABLE gates (
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    run_id TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, name)
) {without_rowid};

CREATE TABLE gated (
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (env_id, name, run_id)
) {without_rowid};

ALTER TABLE runs ADD COLUMN gate TEXT;
ALTER TABLE runs ADD COLUMN gated SMALLINT NOT NULL DEFAULT 0;

CREATE TABLE debounce (
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, task, key)
) {without_rowid};

-- value: AES-256-GCM over the text, bound to environment and name, so that rows cannot be exchanged
CREATE TABLE env_vars (
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    is_secret SMALLINT NOT NULL DEFAULT 0,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, name)
);

-- combined_ bounds all concurrency keys of a queue together; a rate is so many starts in a period, for each key or for all
ALTER TABLE queues ADD COLUMN combined_ BIGINT;
ALTER TABLE queues ADD COLUMN rate_limit BIGINT;
ALTER TABLE queues ADD COLUMN rate_period_ms BIGINT;
ALTER TABLE queues ADD COLUMN rate_burst BIGINT;
ALTER TABLE queues ADD COLUMN rate_per_key SMALLINT;
ALTER TABLE queues ADD COLUMN max_size BIGINT;
ALTER TABLE environments ADD COLUMN controlled SMALLINT NOT NULL DEFAULT 0;

-- filled_at: when, in microseconds, nothing of the rate's past starts counts any more; open_at, in ms: when the next run may start
CREATE TABLE rates (
    queue_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    filled_at BIGINT NOT NULL,
    open_at BIGINT NOT NULL,
    PRIMARY KEY (queue_id, key)
) {without_rowid};

-- what to do with many runs: those of a filter (JSON), of a list, or what another action did (undo_of); cursor is the last one done
CREATE TABLE bulk_actions (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    type TEXT NOT NULL,
    name TEXT,
    status TEXT NOT NULL,
    filter TEXT,
    run_ids TEXT,
    undo_of TEXT,
    cursor_ TEXT,
    total BIGINT NOT NULL,
    success BIGINT NOT NULL,
    failure BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE INDEX bulk_actions_by_env ON bulk_actions (env_id, id);

CREATE TABLE bulk_items (
    bulk_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    made_run_id TEXT,
    error TEXT,
    PRIMARY KEY (bulk_id, run_id)
) {without_rowid};

-- where people and programs are told: events and tasks are JSON lists, secret is sealed
CREATE TABLE alert_channels (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    target TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    tasks TEXT NOT NULL,
    enabled SMALLINT NOT NULL,
    latency_seconds BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX alert_channels_by_env ON alert_channels (env_id, id);

-- one for each event and channel, planned in the transaction that moves the reader's cursor; sent at least once
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    channel_id TEXT NOT NULL,
    env_id BIGINT NOT NULL,
    event TEXT NOT NULL,
    ref TEXT NOT NULL,
    grouped BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL,
    tries BIGINT NOT NULL DEFAULT 0,
    next_at BIGINT,
    created_at BIGINT NOT NULL,
    error TEXT
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX deliveries_by_channel ON deliveries (channel_id, created_at);

-- failures of one task that are told together: how many more there were, until when
CREATE TABLE alert_groups (
    channel_id TEXT NOT NULL,
    key TEXT NOT NULL,
    until BIGINT NOT NULL,
    more BIGINT NOT NULL,
    ref TEXT NOT NULL,
    PRIMARY KEY (channel_id, key)
) {without_rowid};
