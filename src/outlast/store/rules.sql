-- The rules of `check.py`: each statement finds rows that may not exist. First column: the id of what is wrong.
-- {holds}, {final}, {failed} are lists of values of the model; the other {fragments} are the databases'.

-- ---- I11, I12: counters are what they count

-- rule: a lane's counters are its rows
SELECT l.id, l.used, COALESCE(s.n, 0) AS slots, l.queued, COALESCE(e.n, 0) AS entries FROM lanes l
LEFT JOIN (SELECT b.base_id AS id, count(*) AS n FROM slots JOIN lanes b ON b.id = slots.lane_id GROUP BY b.base_id) s ON s.id = l.id
LEFT JOIN (SELECT lane_id AS id, count(*) AS n FROM entries GROUP BY lane_id) e ON e.id = l.id
WHERE l.used <> COALESCE(s.n, 0) OR l.queued <> COALESCE(e.n, 0);

-- rule: a lane's head is its oldest entry
SELECT l.id, l.head, e.pos FROM lanes l
LEFT JOIN (SELECT lane_id, min(pos) AS pos FROM entries GROUP BY lane_id) e ON e.lane_id = l.id
WHERE (l.head IS NULL) <> (e.pos IS NULL) OR l.head <> e.pos;

-- rule: a lane with work and room is open, and no other is
SELECT l.id, l.open, l.queued, b.used FROM lanes l JOIN lanes b ON b.id = l.base_id
JOIN queues q ON q.id = l.queue_id JOIN environments e ON e.id = q.env_id
WHERE (l.open = 1) <> (l.queued > 0 AND q.paused = 0 AND b.used < {least}(COALESCE(q.override_, q.limit_, e.limit_), e.limit_))
-- a changed limit reaches the lanes by a work item
AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = 'reopen');

-- ---- a run executes if and only if it has a slot, and can be claimed if and only if it has an entry

-- rule: a run that executes has its slot
SELECT r.id, r.execution FROM runs r WHERE r.execution IN {holds}
AND NOT EXISTS (SELECT 1 FROM slots s WHERE s.run_id = r.id AND s.epoch = r.epoch AND s.lane_id = r.lane_id);

-- rule: a slot is of a run that executes
SELECT s.run_id, s.epoch, r.epoch, r.execution FROM slots s LEFT JOIN runs r ON r.id = s.run_id
WHERE r.id IS NULL OR r.execution NOT IN {holds} OR r.epoch <> s.epoch;

-- rule: a slot is of a session
SELECT s.run_id, s.session_id FROM slots s WHERE NOT EXISTS (SELECT 1 FROM sessions x WHERE x.id = s.session_id);

-- rule: a queued run has an entry, or a timer that queues it
SELECT r.id, r.lane_id, r.due_at FROM runs r WHERE r.execution = 'QUEUED'
AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.lane_id = r.lane_id AND e.pos = r.pos AND e.run_id = r.id)
AND NOT (r.lane_id IS NULL AND EXISTS (SELECT 1 FROM timers t WHERE t.due_at = r.due_at AND t.kind = 'run' AND t.ref = r.id));

-- rule: an entry is of a queued run
SELECT e.run_id, r.execution FROM entries e LEFT JOIN runs r ON r.id = e.run_id
WHERE r.id IS NULL OR r.execution <> 'QUEUED' OR r.lane_id <> e.lane_id;

-- ---- what a run waits for will come

-- rule: a run that is due has its timer
SELECT r.id, r.execution, r.due_at FROM runs r WHERE r.due_at IS NOT NULL AND r.execution <> 'PENDING_VERSION'
AND NOT EXISTS (SELECT 1 FROM timers t WHERE t.due_at = r.due_at AND t.kind = 'run' AND t.ref = r.id);

-- rule: a delayed run is due
SELECT id FROM runs WHERE execution = 'DELAYED' AND due_at IS NULL;

-- rule: a parked run is found by versions
SELECT r.id FROM runs r WHERE r.execution = 'PENDING_VERSION' AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.run_id = r.id);

-- rule: only parked runs are parked
SELECT p.run_id, r.execution FROM parked p LEFT JOIN runs r ON r.id = p.run_id WHERE r.id IS NULL OR r.execution <> 'PENDING_VERSION';

-- rule: a waiting run waits for something
SELECT r.id FROM runs r WHERE r.execution = 'SUSPENDED'
AND NOT EXISTS (SELECT 1 FROM journal j WHERE j.run_id = r.id AND j.journal = r.journal AND j.status = 'pending');

-- rule: a wait that ends has its timer
SELECT j.id, j.due_at FROM journal j JOIN runs r ON r.id = j.run_id AND r.journal = j.journal
WHERE (j.kind = 'wait' OR j.due_at IS NOT NULL) AND j.status = 'pending' AND r.finished_at IS NULL
AND NOT EXISTS (SELECT 1 FROM timers t WHERE t.due_at = j.due_at AND t.kind = 'wait' AND t.ref = j.id);

-- rule: a wait's timer goes with the wait
SELECT t.ref, t.due_at FROM timers t WHERE t.kind = 'wait' AND NOT EXISTS (SELECT 1 FROM journal j
JOIN runs r ON r.id = j.run_id AND r.journal = j.journal WHERE j.id = t.ref AND j.status = 'pending' AND r.finished_at IS NULL);

-- rule: a child that is waited for is not over
SELECT j.id, j.ref, c.status FROM journal j JOIN runs r ON r.id = j.run_id AND r.journal = j.journal
LEFT JOIN runs c ON c.id = j.ref
WHERE j.kind = 'trigger_and_wait' AND j.status = 'pending' AND r.finished_at IS NULL AND (c.id IS NULL OR c.finished_at IS NOT NULL);

-- rule: a batch that is waited for is not over
SELECT j.id, j.ref FROM journal j JOIN runs r ON r.id = j.run_id AND r.journal = j.journal
LEFT JOIN batches b ON b.id = j.ref
WHERE j.kind = 'batch_and_wait' AND j.status = 'pending' AND r.finished_at IS NULL AND (b.id IS NULL OR b.completed_at IS NOT NULL);

-- rule: a token that is waited for knows its waiter
SELECT j.id, j.ref FROM journal j JOIN runs r ON r.id = j.run_id AND r.journal = j.journal
WHERE j.kind = 'token' AND j.status = 'pending' AND r.finished_at IS NULL
AND NOT EXISTS (SELECT 1 FROM edges e JOIN waitpoints w ON w.id = e.waitpoint_id
                WHERE e.waitpoint_id = j.ref AND e.run_id = j.run_id AND w.status = 'WAITING');

-- rule: a token with a timeout has its timer
SELECT w.id FROM waitpoints w WHERE w.status = 'WAITING' AND w.timeout_at IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM timers t WHERE t.kind = 'token' AND t.ref = w.id);

-- rule: completions are numbered without a gap
SELECT r.id, r.journal, r.next_seq, count(j.id) FROM runs r
LEFT JOIN journal j ON j.run_id = r.id AND j.journal = r.journal AND j.seq IS NOT NULL
GROUP BY r.id, r.journal, r.next_seq
HAVING count(j.id) <> r.next_seq OR COALESCE(max(j.seq), -1) + 1 <> r.next_seq OR count(DISTINCT j.seq) <> count(j.id);

-- ---- I18

-- rule: a run's last change has its event
-- or it has none any more: events go by their age
SELECT r.id, r.snapshot, max(e.n) FROM runs r JOIN events e ON e.run_id = r.id GROUP BY r.id, r.snapshot HAVING max(e.n) <> r.snapshot;

-- ---- ends

-- rule: a final status and the end go together
-- one that was cancelled while it waited may be queued once more, for its clean-up
SELECT id, status, execution FROM runs WHERE (status IN {final}) <> (execution IN ('FINISHED', 'PENDING_CANCEL')
OR (execution = 'QUEUED' AND cancel_asked IS NOT NULL))
OR (status IN {final}) <> (finished_at IS NOT NULL);

-- rule: a run that is over holds nothing
SELECT id, held_by, due_at FROM runs WHERE execution = 'FINISHED' AND (held_by IS NOT NULL OR due_at IS NOT NULL);

-- rule: a run has its data
SELECT r.id FROM runs r WHERE NOT EXISTS (SELECT 1 FROM run_data d WHERE d.run_id = r.id);

-- rule: a failed run is among the failures
SELECT r.id, r.status FROM runs r WHERE r.status IN {failed} AND NOT EXISTS (SELECT 1 FROM failures f WHERE f.run_id = r.id);

-- rule: attempts stay within their maximum
SELECT id, attempt, losses, max_attempts FROM runs WHERE max_attempts IS NOT NULL AND attempt - losses > {greatest}(1, max_attempts);

-- rule: children of a cancelled run are over, or will be
SELECT c.id, c.parent_id FROM runs c JOIN runs p ON p.id = c.parent_id
WHERE p.status = 'CANCELED' AND p.losses = 0 AND c.finished_at IS NULL AND c.detached = 0
AND NOT EXISTS (SELECT 1 FROM work w WHERE w.kind = 'cancel_children' AND w.ref = p.id);

-- ---- batches

-- rule: a batch counts its items
SELECT b.id, b.expected, b.received, b.remaining, count(i.batch_id) FROM batches b
LEFT JOIN batch_items i ON i.batch_id = b.id
LEFT JOIN runs r ON r.id = i.run_id AND r.batch_id = b.id AND r.finished_at IS NULL
GROUP BY b.id, b.expected, b.received, b.remaining
HAVING count(i.batch_id) <> b.received OR b.remaining <> b.expected - b.received + count(r.id);

-- rule: a batch is complete when all its items are
SELECT id, remaining, sealed_at, completed_at FROM batches
WHERE (completed_at IS NOT NULL) <> (remaining = 0 AND sealed_at IS NOT NULL) OR (sealed_at IS NOT NULL) <> (received = expected);
