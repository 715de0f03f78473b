"""The tasks of the simulation in real processes, with a ledger on disk."""

from __future__ import annotations

import os
from pathlib import Path

from tests.simulation import programs
from tests.simulation.programs import *  # noqa: F403 - they are this project's tasks
from tests.torture.ledger import FileLedger

programs.use(FileLedger(Path(os.environ["LEDGER"])))
