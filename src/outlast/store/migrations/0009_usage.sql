-- CPU time of all attempts in ms; that of the current attempt in executions before this one; the largest process a run had, in bytes
ALTER TABLE runs ADD COLUMN cpu_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN attempt_cpu_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN peak_memory BIGINT NOT NULL DEFAULT 0;
