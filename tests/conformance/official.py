"""The official JavaScript client, driven from Python: a body of JavaScript in, its JSON out."""

from __future__ import annotations

import json
import select
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx

from tests.conformance.npm import HERE, NODE, environment

PACKAGES = {"4.8.3": "@trigger.dev/sdk", "4.5.12": "@trigger.dev/sdk-4.5"}


class Threw(AssertionError):
    """The body threw; `name`, `status` and `kind` (its class) are the error's."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('kind')}: {error['message']}\n{error['stack']}")
        self.name: str | None = error.get("name")
        self.status: int | None = error.get("status")
        self.kind: str | None = error.get("kind")
        self.message: str = error["message"]


class Official:
    """One node process with one version of the SDK, against one server. Call it with a body; see `__call__`."""

    def __init__(self, url: str, key: str, version: str, log: Path) -> None:
        self.url = url
        self.key = key
        self.version = version
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
        self._others: list[httpx.Client] = []
        self._log = log
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [NODE, "driver.mjs", PACKAGES[version]],
                cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=environment(TRIGGER_API_URL=url, TRIGGER_SECRET_KEY=key),
            )  # fmt: skip
        self._n = 0
        self.names: list[str] = self._answer(60)

    def __call__(self, body: str, *, seconds: float = 90, **input: Any) -> Any:
        """Run a body inside an async function; its `return` is the answer.

        In scope: the SDK's exports, `sdk` (all of them), `input` (the keywords), `explain(error)` (an error as JSON).

        Raises:
            Threw: it threw.
        """
        self._n += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._n, "body": textwrap.dedent(body), "input": input}) + "\n")
        self._process.stdin.flush()
        return self._answer(seconds)

    def bearer(self, token: str | None) -> httpx.Client:
        """An HTTP client with another token, or with none."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        found = httpx.Client(base_url=self.url, timeout=60, trust_env=False, headers=headers)
        self._others.append(found)
        return found

    def run_file(self, script: Path, *, seconds: float = 90, **more: str) -> str:
        """Run a file of its own in a process of its own; what it wrote to stdout."""
        done = subprocess.run(
            [NODE, str(script)], capture_output=True, text=True, timeout=seconds, cwd=HERE,
            env=environment(TRIGGER_API_URL=self.url, TRIGGER_SECRET_KEY=self.key, **more),
        )  # fmt: skip
        assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        for client in (self.http, *self._others):
            client.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self, seconds: float) -> Any:
        assert self._process.stdout is not None
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            readable, _, _ = select.select([self._process.stdout], [], [], left)
            line = self._process.stdout.readline() if readable else None
            if line == "":
                break
            if line is None:
                continue
            found = json.loads(line)
            if found["id"] == self._n:  # an earlier body that was given up may still answer
                if "error" in found:
                    raise Threw(found["error"])
                return found["value"]
        raise AssertionError(f"no answer from the SDK within {seconds} s:\n{self._log.read_text()[-3000:]}")
