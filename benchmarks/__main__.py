"""`python -m benchmarks [SCENARIO …] [--database sqlite|postgresql|both] [--rounds N]`"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform

from benchmarks.house import RAISED, house, postgres
from benchmarks.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS), metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    kinds = ["sqlite", "postgresql"] if arguments.database == "both" else [arguments.database]
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(postgres()) if "postgresql" in kinds else None
        for _ in range(arguments.rounds):
            for name in arguments.scenarios:
                for kind in kinds:
                    if name == "startup" and kind != "sqlite":
                        continue
                    with house(kind, url=url if kind == "postgresql" else None) as found:
                        result = asyncio.run(SCENARIOS[name](found))
                    line = {"scenario": name, "database": kind, **result, "python": platform.python_version(), **RAISED}
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
