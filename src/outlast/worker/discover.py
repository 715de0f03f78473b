"""Finding a project's tasks: its `outlast_config.py`, and every module of the folders that names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from outlast import queues, tasks
from outlast.config import Config
from outlast.model.manifest import Manifest, TaskDefinition
from outlast.tasks import Task

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


def discover(project: Path, modules: list[str] | None = None, *, on_import: Callable[[str], None] | None = None) -> Discovery:
    """Import a project's tasks into this process. `modules` replaces the folders of the config; `on_import` hears each one's name."""
    project = project.resolve()
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    tasks.clear()
    queues.registry.clear()
    failures: list[ImportFailure] = []
    config = _config(project, failures)
    if on_import is not None:
        on_import("outlast_config")
    files: list[Path] = []
    names = modules if modules is not None else _module_names(project, config, files, failures)
    for name in names:
        _import(name, failures)
        if on_import is not None:
            on_import(name)
    if modules is not None:
        files.extend(_files_of(modules, project))
    failures.extend(ImportFailure("", "", text) for text in tasks.registry.duplicates)
    definitions = [found for task in list(tasks.registry.tasks.values()) if (found := _define(task, config, project, failures)) is not None]
    manifest = Manifest(
        python=".".join(platform.python_version_tuple()[:2]),
        content_hash=_hash(project, files),
        tasks=definitions,
        queues=[queues.definition(q) for q in queues.registry.values()],
    )
    return Discovery(manifest, config, failures)


def _define(task: Task[Any, Any], config: Config, project: Path, failures: list[ImportFailure]) -> TaskDefinition | None:
    """A task whose annotations make no schema is left out, with the reason; the others work."""
    try:
        return _with_defaults(task.definition(), config, project)
    except Exception:  # whatever the schema's library raises
        failures.append(ImportFailure(f"task {task.id}", task.location[0], traceback.format_exc(limit=-3)))
        del tasks.registry.tasks[task.id]
        return None


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
    except (Exception, SystemExit):
        failures.append(ImportFailure("outlast_config", CONFIG, traceback.format_exc(limit=-8)))
    return Config()


def _module_names(project: Path, config: Config, files: list[Path], failures: list[ImportFailure]) -> Iterator[str]:
    """Every module below the folders; packages before what is in them."""
    for entry in config.dirs:
        folder = project / entry.replace(".", "/")
        if folder.with_suffix(".py").is_file():
            files.append(folder.with_suffix(".py"))
            yield entry.replace("/", ".")
            continue
        if not folder.is_dir():
            if _is_installed(entry):
                yield entry
            elif (project / CONFIG).is_file():
                failures.append(ImportFailure(entry, CONFIG, f"{CONFIG} names {entry!r} in `dirs`, and {folder} does not exist\n"))
            continue
        for path in sorted(folder.rglob("*.py")):
            if any(fnmatch(path.name, pattern) for pattern in config.ignore_patterns):
                continue
            parts = path.relative_to(project).with_suffix("").parts
            files.append(path)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_installed(entry: str) -> bool:
    try:
        return importlib.util.find_spec(entry) is not None
    except (ImportError, ValueError):
        return False


def _files_of(modules: list[str], project: Path) -> list[Path]:
    """The files behind modules that were named one by one; a package counts whole."""
    files: set[Path] = set()
    for name in modules:
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin is None or not Path(origin).resolve().is_relative_to(project):
            continue
        path = Path(origin).resolve()
        files.update(path.parent.rglob("*.py") if path.name == "__init__.py" else [path])
    return sorted(files)


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
