"""A parent fans out one child per file, waits for all of them and for an approval, and has the index written."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import TypedDict

from outlast import AbortTaskRun, BatchItem, Retry, RunContext, logger, queue, step, task, wait

WORD = re.compile(r"[A-Za-z]{3,}")
shelves = queue("shelves", concurrency_limit=1)  # per key: two files of one letter are never written at once


class Folder(TypedDict):
    path: str
    output: str


class File(TypedDict):
    path: str
    output: str


@task(id="docs.index.folder")
async def index_folder(payload: Folder, ctx: RunContext) -> dict[str, int | str]:
    """One child per file, all waited for; then a person's approval, then the index. A crash anywhere in it repeats nothing."""
    files = await step("list files", list_files, payload)
    items = [
        BatchItem(
            File(path=f, output=payload["output"]),
            concurrency_key=Path(f).name[0].lower(),
            queue="shelves",
            tags=[f"folder:{Path(f).parent.name}"[:128]],
        )
        for f in files
    ]
    results = await index_file.batch_trigger_and_wait(items)
    words = sum(run.output["words"] for run in results.runs if run.ok)
    await wait.for_(seconds=1)
    token = await wait.create_token(timeout="10m", tags=[f"approve:{ctx.run.id}"])
    logger.info("waiting for approval", files=len(files), words=words, url=token.url)
    approved = await wait.for_token(token).unwrap()
    index = await finish_index.trigger_and_wait(Index(output=payload["output"])).unwrap()
    return {"files": len(files), "approved_by": approved["by"], **index}


def list_files(payload: Folder) -> list[str]:
    found = sorted(p for p in Path(payload["path"]).rglob("*") if p.suffix in (".py", ".md", ".sql", ".txt") and p.is_file())[:200]
    if not found:
        raise AbortTaskRun(f"no text files in {payload['path']}")
    Path(payload["output"]).mkdir(parents=True, exist_ok=True)
    return [str(path) for path in found]


class Index(TypedDict):
    output: str


@task(id="docs.index.file", queue=shelves)
def index_file(payload: File) -> dict[str, int]:
    """CPU work in a thread of an executor of its own: count the words of one file."""
    path = Path(payload["path"])
    words = Counter(w.lower() for w in WORD.findall(path.read_text(errors="replace")))
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    target = Path(payload["output"]) / f"{name}.part"
    target.with_suffix(".tmp").write_text(json.dumps({"file": str(path), "words": words}))
    target.with_suffix(".tmp").replace(target)
    print(f"{path.name}: {sum(words.values())} words")
    return {"words": sum(words.values()), "different": len(words)}


@task(id="docs.index.finish")
def finish_index(payload: Index) -> dict[str, int | str]:
    """Join the parts into one index: word → files, most frequent first."""
    index: dict[str, list[tuple[str, int]]] = {}
    parts = sorted(Path(payload["output"]).glob("*.part"))
    for part in parts:
        found = json.loads(part.read_text())
        for word, count in found["words"].items():
            index.setdefault(word, []).append((found["file"], count))
    for files in index.values():
        files.sort(key=lambda item: -item[1])
    target = Path(payload["output"]) / "index.json"
    target.write_text(json.dumps(index, sort_keys=True))
    logger.info("index written", words=len(index), file=str(target))
    return {"files": len(parts), "words": len(index), "index": str(target)}


@task(id="links.check.page", retry=Retry(max_attempts=5, min_timeout=0.2, max_timeout=1.0))
async def check_page(payload: str, ctx: RunContext) -> dict[str, int | str]:
    """Ask a service that fails now and then; every failure is retried after a pause."""
    # which attempts fail is fixed by the page's name, so that the demo always ends the same way
    failures = hashlib.sha256(payload.encode()).digest()[0] % 3
    if ctx.attempt.number <= failures:
        raise ConnectionError(f"503 from the service (attempt {ctx.attempt.number})")
    return {"page": payload, "attempts": ctx.attempt.number}


@task(id="reports.send.summary")
async def send_summary(payload: str) -> str:
    """Runs some seconds after it was triggered."""
    logger.info("the summary would be sent now", to=payload)
    return f"summary for {payload}"
