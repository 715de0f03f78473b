"""Finding a project's tasks: its `outlast_config.py`, and every module of the folders that names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import platform
import sys
import traceback
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import msgspec

from outlast import queues, tasks
from outlast.config import Config
from outlast.model.manifest import Manifest, QueueDefinition, TaskDefinition

CONFIG = "outlast_config.py"


class ImportFailure(msgspec.Struct, frozen=True):
    """A module that could not be imported, with the traceback to show."""

    module: str
    file: str
    traceback: str


class Discovery(msgspec.Struct, frozen=True):
    """What was found. Modules that failed are left out; the others work."""

    manifest: Manifest
    config: Config
    failures: list[ImportFailure] = []


def discover(project: Path, modules: list[str] | None = None) -> Discovery:
    """Import a project's tasks into this process. `modules` replaces the folders of the config."""
    project = project.resolve()
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    tasks.clear()
    queues.registry.clear()
    failures: list[ImportFailure] = []
    config = _config(project, failures)
    files: list[Path] = []
    names = modules if modules is not None else _module_names(project, config, files)
    for name in names:
        _import(name, failures)
    failures.extend(ImportFailure("", "", text) for text in tasks.registry.duplicates)
    definitions = [_with_defaults(task.definition(), config, project) for task in tasks.registry.tasks.values()]
    manifest = Manifest(
        python=".".join(platform.python_version_tuple()[:2]),
        content_hash=_hash(project, files),
        tasks=definitions,
        queues=[QueueDefinition(name=q.name, concurrency_limit=q.concurrency_limit) for q in queues.registry.values()],
    )
    return Discovery(manifest, config, failures)


def _with_defaults(definition: TaskDefinition, config: Config, project: Path) -> TaskDefinition:
    """What the project sets for all its tasks; paths are shown relative to it."""
    file = Path(definition.file)
    shown = file.relative_to(project).as_posix() if file.is_relative_to(project) else file.name
    ttl_ms = definition.ttl_ms if definition.ttl_ms is not None else config.default_ttl_ms
    return msgspec.structs.replace(definition, file=shown, ttl_ms=ttl_ms, retry=definition.retry or config.retries)


def _config(project: Path, failures: list[ImportFailure]) -> Config:
    path = project / CONFIG
    if not path.is_file():
        return Config()
    try:
        spec = importlib.util.spec_from_file_location("outlast_config", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = getattr(module, "config", None)
        if isinstance(found, Config):
            return found
        failures.append(ImportFailure("outlast_config", CONFIG, f"{CONFIG} defines no `config = Config(…)`"))
    except Exception:
        failures.append(ImportFailure("outlast_config", CONFIG, traceback.format_exc(limit=-8)))
    return Config()


def _module_names(project: Path, config: Config, files: list[Path]) -> Iterator[str]:
    """Every module below the folders; packages before what is in them."""
    for entry in config.dirs:
        folder = project / entry.replace(".", "/")
        if folder.with_suffix(".py").is_file():
            files.append(folder.with_suffix(".py"))
            yield entry
            continue
        for path in sorted(folder.rglob("*.py")):
            if any(fnmatch(path.name, pattern) for pattern in config.ignore_patterns):
                continue
            parts = path.relative_to(project).with_suffix("").parts
            files.append(path)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _import(name: str, failures: list[ImportFailure]) -> None:
    try:
        importlib.import_module(name)
    except BaseException as error:  # a module may raise anything, SystemExit too; the others still count
        if isinstance(error, KeyboardInterrupt):
            raise
        spec = None
        file = ""
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            file = ""
        if spec is not None and spec.origin is not None:
            file = spec.origin
        failures.append(ImportFailure(name, file, "".join(traceback.format_exception(error, limit=-8))))


def _hash(project: Path, files: list[Path]) -> str:
    """Changes whenever a line of the tasks' own modules changes."""
    found = hashlib.sha256()
    config = project / CONFIG
    for path in [*([config] if config.is_file() else []), *sorted(files)]:
        found.update(path.relative_to(project).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
