-- A session is kept by the hash of the id in its cookie, a one-time link by the hash of its secret.
CREATE TABLE dashboard_sessions (
    hash TEXT PRIMARY KEY,
    env_id BIGINT,
    key_id TEXT,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
) {without_rowid};

CREATE TABLE login_links (
    hash TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
) {without_rowid};

ALTER TABLE api_keys ADD COLUMN role TEXT NOT NULL DEFAULT 'operator';

-- when an operation was asked for, or a step's function began; and when it was done
ALTER TABLE journal ADD COLUMN began_at BIGINT;
ALTER TABLE journal ADD COLUMN ended_at BIGINT;
