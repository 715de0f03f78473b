"""`outlast init`: the layout the docs teach."""

from __future__ import annotations

from pathlib import Path

from outlast.errors import ConfigurationError

FILES = {
    "outlast_config.py": """from outlast.config import Config, Retry

config = Config(
    dirs=["tasks"],
    retries=Retry(max_attempts=3, min_timeout=1, max_timeout=10, factor=2, randomize=True),
    retries_in_dev=False,
)
""",
    "tasks/__init__.py": '''"""Every task module is found by itself; hooks for all tasks belong here."""
''',
    "tasks/example.py": """from outlast import RunContext, logger, task
from tasks.shared.queues import greetings


@task(id="example.greet.person", queue=greetings)
async def greet(payload: str, ctx: RunContext) -> str:
    logger.info("greeting", name=payload, attempt=ctx.attempt.number)
    return f"hello {payload}"
""",
    "tasks/shared/__init__.py": "",
    "tasks/shared/queues.py": """from outlast import queue

greetings = queue("greetings", concurrency_limit=10)
""",
    "tasks/shared/streams.py": '''"""Streams of this project."""
''',
}
IGNORED = ".outlast/\n"


def write(folder: Path, *, override: bool) -> list[Path]:
    """Write what is missing, and keep what exists unless told otherwise.

    Raises:
        ConfigurationError: the folder has a configuration already.
    """
    if (folder / "outlast_config.py").exists() and not override:
        raise ConfigurationError(f"{folder / 'outlast_config.py'} exists already: this is a project; --override writes it anew")
    written: list[Path] = []
    for name, text in FILES.items():
        path = folder / name
        if path.exists() and not override:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    ignore = folder / ".gitignore"
    before = ignore.read_text() if ignore.exists() else ""
    if IGNORED.strip() not in before.split():
        ignore.write_text(before + IGNORED)
        written.append(ignore)
    return written
