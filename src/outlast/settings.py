"""Settings of processes: argument > environment > default, each with where its value came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from outlast.errors import ConfigurationError

Origin = Literal["argument", "environment", "default"]
Kind = Literal["text", "int", "float"]


class Setting(msgspec.Struct, frozen=True):
    """A setting: its environment variable is OUTLAST_ and its name in capitals."""

    name: str
    default: Any
    meaning: str
    kind: Kind = "text"
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return f"OUTLAST_{self.name.upper()}"


class Value(msgspec.Struct, frozen=True):
    setting: Setting
    value: Any
    origin: Origin


SETTINGS = (
    Setting("data", ".outlast", "folder of the SQLite file, logs and the dev key"),
    Setting("database", None, "sqlite:///path or postgresql://…; without it outlast.db in the data folder"),
    Setting("schema", "outlast", "schema of the tables on PostgreSQL"),
    Setting("host", "127.0.0.1", "address the server listens on"),
    Setting("port", 3040, "port the server listens on; 0 picks a free one", "int", 0),
    Setting("log_format", None, "text or json; without it text on a terminal, else json", "text", None, ("text", "json")),
    Setting("dev_concurrency", 100, "runs that may execute at once in dev", "int", 1),
    Setting("concurrency", 1_000, "runs that may execute at once in every other environment", "int", 1),
    Setting("burst", 1.0, "factor on the environment's limit; a single queue never gets more than the limit", "float", 1),
    Setting(
        "unknown_tasks", "park", "park (wait for a version) or refuse (404) triggers of unknown tasks", "text", None, ("park", "refuse")
    ),
    Setting("retention_days", None, "how long finished runs, events and logs are kept; without it for ever", "float", 0),
    Setting("payload_store", None, "where uploads lie until used: a folder, s3://, gs:// or az://; without it payloads/ in data"),
    Setting("max_token_seconds", 86_400, "longest life of a public token; 30 days at most", "int", 60),
    Setting("key_rate", "750+250/10s", "calls with an API key: 750 at once, 250 more every ten seconds; or off, as it is in `outlast dev`"),
    Setting("token_rate", "60/1m", "calls with a public token, subscriptions not counted"),
    Setting(
        "batch_rate",
        "1200+100/10s",
        "runs that an environment's batches make: 1,200 at once, 100 more every ten seconds; or off, as in `outlast dev`",
    ),
    Setting("public_url", None, "what addresses handed out begin with; without it as the client reached the server"),
    Setting("allow_private_webhooks", None, "private networks that webhooks may go to, as in 10.0.0.0/8,192.168.1.7"),
    Setting("smtp", None, "smtp://user:password@host:587 for alerts by mail"),
    Setting("ca_file", None, "a file of certificates (PEM) that receivers of alerts may be signed by, beside the well-known"),
    Setting("alerts_from", "outlast@localhost", "sender of alerts by mail"),
    Setting("secrets_key", None, "32 bytes in base64 that seal variables, older keys behind commas; without it secrets.key in data"),
    Setting("executors", os.cpu_count() or 1, "executor processes of a worker, for each kind of task it has", "int", 1),
    Setting("async_slots", 250, "async runs an executor holds at most", "int", 1),
    Setting("thread_slots", 16, "threads of an executor for `def` tasks", "int", 1),
    Setting("process_slots", 16, 'runs of tasks with isolation="process" that a worker executes at once', "int", 1),
    Setting("cold_after", None, "seconds a waiting run's coroutine is kept; 0: for ever; without it as outlast_config.py says", "float", 0),
    Setting("hot_waits", 8_000, "waiting runs whose coroutines an executor keeps at most", "int", 1),
    Setting("memory_mb", None, "an executor with many waiting runs is replaced when it has more memory than this", "int", 1),
    Setting("drain_seconds", 60.0, "how long a stopping worker lets its runs go on", "float", 0),
)


class Settings:
    """All settings, resolved. Read them as attributes."""

    def __init__(self, arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> None:
        given = arguments or {}
        found = os.environ if environment is None else environment
        self.values = {setting.name: _resolve(setting, given.get(setting.name), found.get(setting.variable)) for setting in SETTINGS}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name].value
        except KeyError:
            raise AttributeError(name) from None


def _resolve(setting: Setting, argument: Any, variable: str | None) -> Value:
    if argument is not None:
        return Value(setting, _checked(setting, argument, f"--{setting.name.replace('_', '-')}"), "argument")
    if variable:
        return Value(setting, _checked(setting, variable, setting.variable), "environment")
    return Value(setting, setting.default, "default")


def _checked(setting: Setting, value: Any, where: str) -> Any:
    try:
        parsed: Any = int(value) if setting.kind == "int" else float(value) if setting.kind == "float" else str(value)
    except ValueError as error:
        raise ConfigurationError(f"{where}={value!r} is not a number") from error
    if setting.least is not None and parsed < setting.least:
        raise ConfigurationError(f"{where}={value} is below {setting.least:g}")
    if setting.choices and parsed not in setting.choices:
        raise ConfigurationError(f"{where}={value!r}: use {' or '.join(setting.choices)}")
    return parsed
