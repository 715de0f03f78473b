-- Times are UTC milliseconds. No foreign keys onto runs, lanes or waitpoints: on PostgreSQL their checks take a second
-- lock mode, with which SKIP LOCKED can block. {fragments} are what differs between the databases.

CREATE TABLE environments (
    id BIGINT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    limit_ BIGINT NOT NULL,
    burst DOUBLE PRECISION NOT NULL DEFAULT 1.0,
    paused SMALLINT NOT NULL DEFAULT 0,
    current_version TEXT,
    max_queue_size BIGINT,
    max_ttl_ms BIGINT,
    signing_secret TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    last_four TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT,
    expires_at BIGINT,
    revoked_at BIGINT
);

CREATE TABLE queues (
    id {identity},
    public_id TEXT NOT NULL UNIQUE,
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    limit_ BIGINT,
    override_ BIGINT,
    overridden_at BIGINT,
    overridden_by TEXT,
    paused SMALLINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    UNIQUE (env_id, name)
);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    queue TEXT NOT NULL,
    queue_id BIGINT,
    concurrency_key TEXT,
    lane_id BIGINT,
    pos BIGINT NOT NULL,
    route TEXT NOT NULL,
    status TEXT NOT NULL,
    execution TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    snapshot BIGINT NOT NULL,
    held_by TEXT,
    version TEXT,
    locked_version TEXT,
    parent_id TEXT,
    parent_key TEXT,
    root_id TEXT,
    batch_id TEXT,
    pending_waits BIGINT NOT NULL,
    next_seq BIGINT NOT NULL,
    cancel_asked BIGINT,
    due_at BIGINT,
    created_at BIGINT NOT NULL,
    queued_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    updated_at BIGINT NOT NULL,
    ttl_ms BIGINT,
    max_attempts BIGINT,
    max_duration DOUBLE PRECISION,
    losses BIGINT NOT NULL,
    deliveries BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    usage_ms BIGINT NOT NULL,
    is_test SMALLINT NOT NULL
) {fillfactor_50};
-- none of these columns ever changes: an update of a run stays HOT on PostgreSQL
CREATE INDEX runs_by_env ON runs (env_id, id);
CREATE INDEX runs_by_task ON runs (env_id, task, id);
CREATE INDEX runs_by_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE run_data (
    run_id TEXT PRIMARY KEY,
    payload TEXT,
    payload_type TEXT NOT NULL,
    options TEXT NOT NULL,
    metadata TEXT,
    output TEXT,
    output_type TEXT,
    error TEXT,
    result_hash TEXT
);

CREATE TABLE run_tags (
    env_id BIGINT NOT NULL,
    tag TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (env_id, tag, run_id)
) {without_rowid};

-- runs that failed, and runs that wait for a version: rare, so that lists of them need no index on the hot rows
CREATE TABLE failures (
    env_id BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (env_id, run_id)
) {without_rowid};

CREATE TABLE parked (
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    run_id TEXT NOT NULL,
    queue TEXT,
    PRIMARY KEY (env_id, task, run_id)
) {without_rowid};

CREATE TABLE lanes (
    id {identity},
    base_id BIGINT,
    env_id BIGINT NOT NULL,
    queue_id BIGINT NOT NULL,
    key TEXT NOT NULL,
    route TEXT NOT NULL,
    head BIGINT,
    used BIGINT NOT NULL DEFAULT 0,
    queued BIGINT NOT NULL DEFAULT 0,
    open SMALLINT NOT NULL DEFAULT 0,
    touched_at BIGINT NOT NULL,
    UNIQUE (queue_id, key, route)
) {fillfactor_70};
CREATE INDEX lanes_open ON lanes (env_id, route, head) WHERE open = 1;
CREATE INDEX lanes_by_base ON lanes (base_id);

CREATE TABLE entries (
    lane_id BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (lane_id, pos, run_id)
) {without_rowid};

CREATE TABLE slots (
    run_id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    lane_id BIGINT NOT NULL,
    session_id TEXT NOT NULL,
    executor TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    start_by BIGINT
);
CREATE INDEX slots_by_session ON slots (session_id);
CREATE INDEX slots_by_env ON slots (env_id);
CREATE INDEX slots_by_deadline ON slots (start_by) WHERE start_by IS NOT NULL;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    worker TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    version TEXT NOT NULL,
    server_id TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_lease ON sessions (lease_until) WHERE state = 'open';

CREATE TABLE waitpoints (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    value TEXT,
    value_type TEXT,
    error TEXT,
    tags TEXT,
    idempotency_hash TEXT,
    secret_hash TEXT,
    timeout_at BIGINT,
    created_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE INDEX waitpoints_by_env ON waitpoints (env_id, id);

CREATE TABLE edges (
    waitpoint_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    journal_key TEXT NOT NULL,
    position BIGINT,
    PRIMARY KEY (waitpoint_id, run_id, journal_key)
) {without_rowid};
CREATE INDEX edges_by_run ON edges (run_id);

CREATE TABLE journal (
    run_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    label TEXT,
    fingerprint TEXT,
    status TEXT NOT NULL,
    created_seq BIGINT NOT NULL,
    completed_seq BIGINT,
    created_epoch BIGINT NOT NULL,
    step_key TEXT,
    value TEXT,
    value_type TEXT,
    location TEXT,
    PRIMARY KEY (run_id, attempt, key)
);
CREATE UNIQUE INDEX journal_steps ON journal (run_id, step_key) WHERE step_key IS NOT NULL;

CREATE TABLE timers (
    due_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    ref TEXT NOT NULL,
    PRIMARY KEY (due_at, kind, ref)
) {without_rowid};

CREATE TABLE idempotency (
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    run_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, task, key_hash)
) {without_rowid};
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

CREATE TABLE debounce (
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, task, key)
) {without_rowid};

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    answer TEXT NOT NULL,
    body_hash TEXT,
    expires_at BIGINT NOT NULL
) {without_rowid};
CREATE INDEX requests_by_expiry ON requests (expires_at);

CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    parent_id TEXT,
    parent_key TEXT,
    idempotency_key TEXT,
    expected BIGINT NOT NULL,
    received BIGINT NOT NULL DEFAULT 0,
    remaining BIGINT NOT NULL,
    failed BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    sealed_at BIGINT,
    completed_at BIGINT
);
CREATE INDEX batches_by_env ON batches (env_id, id);

CREATE TABLE batch_items (
    batch_id TEXT NOT NULL,
    index_ BIGINT NOT NULL,
    run_id TEXT,
    task TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (batch_id, index_)
) {without_rowid};

CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    task TEXT NOT NULL,
    type TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    deduplication_key TEXT,
    external_id TEXT,
    options TEXT NOT NULL,
    active SMALLINT NOT NULL,
    revision BIGINT NOT NULL,
    next_at BIGINT,
    last_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (env_id, deduplication_key)
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE active = 1;

CREATE TABLE ticks (
    schedule_id TEXT NOT NULL,
    nominal_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    run_id TEXT,
    PRIMARY KEY (schedule_id, nominal_at)
) {without_rowid};

CREATE TABLE events (
    seq {identity},
    tx {transaction_id},
    env_id BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    data TEXT NOT NULL
);
CREATE UNIQUE INDEX events_by_run ON events (run_id, n);
CREATE INDEX events_by_tx ON events (tx, seq);

CREATE TABLE cursors (
    consumer TEXT PRIMARY KEY,
    tx BIGINT NOT NULL,
    seq BIGINT NOT NULL
);

CREATE TABLE logs (
    seq {identity},
    run_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    level TEXT NOT NULL,
    source TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT
);
CREATE INDEX logs_by_run ON logs (run_id, seq);

CREATE TABLE work (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    ref TEXT NOT NULL,
    run_after BIGINT NOT NULL,
    tries BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX work_due ON work (run_after);

CREATE TABLE deployments (
    env_id BIGINT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    python TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, version),
    UNIQUE (env_id, digest)
);

CREATE TABLE task_definitions (
    env_id BIGINT NOT NULL,
    version TEXT NOT NULL,
    task TEXT NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (env_id, version, task)
);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    last_seen_at BIGINT NOT NULL
);

CREATE TABLE env_vars (
    env_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    is_secret SMALLINT NOT NULL DEFAULT 0,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (env_id, name)
);
