"""Every limit in one place, with its reason. Those a deployment may change are settings too (`outlast settings`)."""

from __future__ import annotations

import re
from typing import Final

LEASE_MS: Final = 30_000  # three heartbeats
HOLDER_MS = 2_000  # a run that may go on waits so long for the worker that has its coroutine
HEARTBEAT_MS: Final = 10_000
UPKEEP_MS: Final = 5_000  # lost leases are looked for this often, so a lost worker costs at most 35 s
POLL_MS: Final = 5_000  # behind every wake: a lost wake costs this, never a run
CANCEL_GRACE_MS: Final = 30_000  # for the code of a cancelled run, before it is stopped
CANCEL_DEADLINE_MS: Final = 60_000  # a cancelled run whose worker stays silent is forced to its end
CLEAN_UP_MS: Final = 600_000  # a run cancelled while it waited is offered so long to workers that replay it for its clean-up
MAX_DELIVERIES: Final = 12  # claims lost before user code began; then the run is dead-lettered
MAX_LOSSES: Final = 3  # workers lost while executing the run; then it is taken for poison
ALONE_LOSSES: Final = 2  # from then on a run that its task does not isolate has a process for itself: it may be poison
LOSS_BACKOFF_MS: Final = 250  # before another attempt, when the process that a run had for itself died
MAX_ATTEMPTS: Final = 250
WARM_RETRY_MS: Final = 30_000  # a shorter retry stays in its process

MAX_PAYLOAD_BYTES: Final = 3 * 1024 * 1024
MAX_OUTPUT_BYTES: Final = 10 * 1024 * 1024
MAX_METADATA_BYTES: Final = 256 * 1024
MAX_BATCH_ITEMS: Final = 1_000
BATCH_SEAL_MS: Final = 30 * 60_000  # a batch whose items do not all arrive by then is aborted, as in Trigger.dev
MAX_BODY_BYTES: Final = 64 * 1024 * 1024  # a batch: read in one piece, so bounded well below memory
MAX_JSON_DEPTH: Final = 100  # Python's own parser fails at 1,000
MAX_INTEGER_DIGITS: Final = 4_300  # Python's own limit against quadratic parsing
MAX_TAGS: Final = 10
MAX_TAG_CHARS: Final = 128
MAX_KEY_CHARS: Final = 2_048  # idempotency keys
MAX_CONCURRENCY_KEY_CHARS: Final = 128
MAX_DEPTH: Final = 200  # a task that triggers itself for ever stops here
MAX_PRIORITY: Final = 86_400 * 365  # seconds of head start: a year
MIN_DURATION_SECONDS: Final = 5  # of max_duration
MAX_FUTURE_MS: Final = 10 * 366 * 86_400_000  # delays and ttls reach ten years
MAX_LOG_CHARS: Final = 128 * 1024
MAX_ERROR_MESSAGE_CHARS: Final = 4 * 1024
MAX_ERROR_STACK_CHARS: Final = 64 * 1024
MAX_REGISTERED_TASKS: Final = 10_000
MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_CONCURRENCY: Final = 100_000
MAX_DEBOUNCE_KEY_CHARS: Final = 512
MIN_DEBOUNCE_MS: Final = 1_000
MAX_DEBOUNCE_MS: Final = 86_400_000  # a key that is triggered all the time runs once a day, unless max_delay says sooner
MAX_QUEUE_SIZE: Final = 100_000_000
MAX_RATE: Final = 1_000_000
MAX_RATE_PERIOD_MS: Final = 31 * 86_400_000
MAX_BULK_RUN_IDS: Final = 500
MAX_BULK_REPLAYS: Final = 5  # at a time, in an environment
MAX_ENV_VARS: Final = 1_000  # of an environment
MAX_ENV_VAR_BYTES: Final = 64 * 1024
MAX_ALERT_CHANNELS: Final = 50  # of an environment
MAX_CRON_CHARS: Final = 256
MAX_SCHEDULES: Final = 100_000  # of an environment
MISSED_MS: Final = 300_000  # a nominal time this late has been missed: only a catch-up policy still fires it
CATCH_UP_MS: Final = 86_400_000  # catch_up="all" goes back a day
MAX_BACKFILL: Final = 10_000  # runs of one backfill
MAX_PREVIEW: Final = 100
TICKS_KEPT_MS: Final = 90 * 86_400_000  # how long a schedule remembers what it did, and so how far back it never fires twice

IDEMPOTENCY_TTL_MS: Final = 30 * 86_400_000
REQUEST_TTL_MS: Final = 86_400_000  # a client's retry finds its first answer for a day

TASK_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
TASK_QUEUE_PREFIX: Final = "task/"  # reserved for the tasks' own queues

MACHINES: Final = ("micro", "small-1x", "small-2x", "medium-1x", "medium-2x", "large-1x", "large-2x")
DEFAULT_MACHINE: Final = "small-1x"

MAX_STREAM_BYTES: Final = 300 * 1024 * 1024
MAX_STREAMS: Final = 100  # of a run
MAX_CHUNK_BYTES: Final = 1024 * 1024  # of a stream, or one value sent to an input stream
MAX_APPEND_BYTES: Final = 512 * 1024  # of one part appended by itself
MAX_STREAM_KEY_CHARS: Final = 256
STREAMS_KEPT_MS: Final = 28 * 86_400_000  # after their run has ended
MAX_SIDE_ITEMS: Final = 1_000  # metadata operations or stream chunks of one flush of a worker


def all_limits() -> dict[str, int]:
    """The numbers of this page by their names in lower case, for people and programs to look up."""
    return {name.lower(): value for name, value in sorted(globals().items()) if name.isupper() and isinstance(value, int)}
