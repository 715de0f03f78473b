"""`outlast_config.py`: one typed object says how a project runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from outlast.errors import ConfigurationError
from outlast.model.duration import parse_duration
from outlast.model.limits import MACHINES, MIN_DURATION_SECONDS
from outlast.model.retry import Retry

__all__ = ["Build", "Config", "Retry", "Telemetry"]


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployed image holds beside the code; used by deploys."""

    extensions: Sequence[Any] = ()


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """OpenTelemetry objects to use in executors: what `instrumentors` trace inside a run is shown with it, and goes to `exporters`.

    With OTEL_EXPORTER_OTLP_ENDPOINT set, spans and metrics go there too. Needs `pip install 'outlast[otel]'`.
    """

    instrumentors: Sequence[Any] = ()
    exporters: Sequence[Any] = ()
    metric_readers: Sequence[Any] = ()
    resource: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])

    @property
    def is_asked_for(self) -> bool:
        return bool(self.instrumentors or self.exporters or self.metric_readers)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a project. Durations are seconds unless they are texts such as "1d".

    `cold_after`: a run that waits so long is kept as a row of the database only, and replayed when it goes on; 0: never.

    Raises:
        ConfigurationError: a value that cannot be; the message names it.

    Example:
        >>> config = Config(project="proj_acme", dirs=["tasks"], retries=Retry(max_attempts=3))
    """

    project: str | None = None
    dirs: list[str] = msgspec.field(default_factory=lambda: ["tasks"])
    ignore_patterns: list[str] = msgspec.field(default_factory=lambda: ["test_*.py", "*_test.py", "conftest.py"])
    retries: Retry | None = None
    retries_in_dev: bool = False
    max_duration: float | None = None
    ttl: str | int | None = None
    machine: str | None = None
    cold_after: float = 60.0
    log_level: Literal["debug", "info", "log", "warn", "error", "none"] = "info"
    telemetry: Telemetry = Telemetry()
    build: Build = Build()

    def __post_init__(self) -> None:
        if self.max_duration is not None and self.max_duration < MIN_DURATION_SECONDS:
            raise ConfigurationError(f"Config.max_duration must be at least {MIN_DURATION_SECONDS} seconds, not {self.max_duration}")
        if self.cold_after < 0:
            raise ConfigurationError(f"Config.cold_after must not be negative, and is {self.cold_after}: 0 means never")
        if self.machine is not None and self.machine not in MACHINES:
            raise ConfigurationError(f"Config.machine {self.machine!r}: use one of {', '.join(MACHINES)}")
        if self.ttl is not None:
            ttl_ms(self.ttl, "Config.ttl")

    @property
    def default_ttl_ms(self) -> int | None:
        return None if self.ttl is None else ttl_ms(self.ttl, "Config.ttl")


def ttl_ms(ttl: str | int, where: str) -> int:
    """Milliseconds of a ttl, which is a duration or whole seconds; 0 switches it off."""
    try:
        ms = parse_duration(ttl) if isinstance(ttl, str) else ttl * 1_000
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if ms < 0:
        raise ConfigurationError(f"{where} must not be negative, and is {ttl}")
    return ms
