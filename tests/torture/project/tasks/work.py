"""The tasks of the simulation in real processes, with a ledger on disk."""

from __future__ import annotations

from tests.simulation import programs
from tests.simulation.programs import *  # noqa: F403 - they are this project's tasks
from tests.torture import ledger

programs.use(ledger.from_environment())
