"""What runs find in their environment: the server's variables, and in development the .env files, which win."""

from __future__ import annotations

import logging
from pathlib import Path

from outlast.model.dotenv import DEV_FILES, parse_dotenv
from outlast.model.messages import SECRET_NAMES, Variables

log = logging.getLogger("outlast.worker")


def environment_of(variables: Variables, dotenv: dict[str, str]) -> dict[str, str]:
    secrets = sorted(set(variables.secrets) - dotenv.keys())
    # without any, nothing is said: a worker that has no variables at all need not load its code a second time
    return {**variables.values, **dotenv, **({SECRET_NAMES: ",".join(secrets)} if secrets else {})}


def dotenv_of(project: Path) -> dict[str, str]:
    """What the .env files of a project say, as they are read in development."""
    found: dict[str, str] = {}
    for name in DEV_FILES:
        try:
            found |= parse_dotenv((project / name).read_text())
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            log.warning("cannot read a .env file", extra={"file": name, "error": str(error)})
    return found
