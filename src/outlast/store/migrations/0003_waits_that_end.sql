-- place: the how-manieth operation of its scope it is; due_at: when its wait or its timeout is over; version: of the code that made it
ALTER TABLE journal ADD COLUMN place BIGINT NOT NULL DEFAULT -1;
ALTER TABLE journal ADD COLUMN due_at BIGINT;
ALTER TABLE journal ADD COLUMN version TEXT NOT NULL DEFAULT '';

-- active time of the attempt in executions before this one
ALTER TABLE runs ADD COLUMN attempt_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN detached SMALLINT NOT NULL DEFAULT 0;
