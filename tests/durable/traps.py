"""The traps of the guide as programs, by their numbers."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from outlast import Retry, RunContext, idempotency_key, queue, run, runs, step, task, wait
from outlast.errors import OutsideRunError
from tests.durable.crashing import UNENDING, Program, Trap
from tests.durable.house import House

MISMATCH = "JournalMismatch"
TRAPS: dict[str, tuple[Trap, str]] = {}  # by number and name; the environment


def trap(number: int, env: str = "prod") -> Callable[[Trap], Trap]:
    def add(made: Trap) -> Trap:
        TRAPS[f"{number}_{made.__name__}"] = (made, env)
        return made

    return add


def nothing() -> None: ...


def name(value: str) -> str:
    return value


async def raised(awaitable: Any) -> str:
    try:
        return str(await awaitable)
    except Exception as error:
        return type(error).__name__


@trap(1)
def chance_decides(_: House) -> Program:
    flips = itertools.count()

    @task
    async def program() -> str:
        await step("heads" if next(flips) == 0 else "tails", nothing)
        await wait.for_(days=1)
        return "done"

    return Program(program, "done", MISMATCH)


@trap(1)
def recorded_chance_decides(_: House) -> Program:
    seen: list[Any] = []

    @task
    async def program() -> int:
        made = (run.random(), run.now(), run.uuid4())
        await step("heads" if made[0] > 0.5 else "tails", seen.append, made)  # what a step does, it does with recorded values
        await wait.for_(days=1)
        return len(set(seen))

    return Program(program, 1)


@trap(2)
def the_clock_decides_a_length(house: House) -> Program:
    lengths = iter([timedelta(hours=1), *[timedelta(days=900)] * 3])

    def clock() -> int:
        return house.clock.at

    @task
    async def program() -> int:
        await step("first", nothing)
        length = next(lengths)
        await wait.for_(seconds=length.total_seconds())
        mid = await step("mid", clock)
        await wait.until(datetime.fromtimestamp(mid / 1_000, UTC) + length)
        return (await step("end", clock) - mid) // 3_600_000

    # whichever execution made the wait, it keeps that one's end, and the next does not begin it anew
    return Program(program, 1, lambda hours: hours in (1, 900 * 24), 900 * 24)


@trap(3)
def a_loop_in_another_order(_: House) -> Program:
    orders = iter(["abc", "cab", "bca"])

    @task
    async def program() -> list[str]:
        got = [await step("mail", name, user) for user in next(orders)]
        await wait.for_(days=1)
        return got

    return Program(program, ["a", "b", "c"], MISMATCH)


@trap(3)
def a_loop_in_another_order_with_keys(_: House) -> Program:
    orders = itertools.cycle(["abc", "cab", "bca"])

    @task
    async def program() -> dict[str, str]:
        got = {user: await step("mail", name, user, key=user) for user in next(orders)}
        await wait.for_(days=1)
        return got

    return Program(program, {user: user for user in "abc"})


@trap(4)
def polling_outside_of_a_step(_: House) -> Program:
    asked: list[int] = []
    polled: list[int] = []

    def ready() -> bool:
        polled.append(1)
        return len(polled) == 3

    @task
    async def program() -> list[Any]:
        while not await step("ready", ready):
            asked.append(1)  # what the code does here it does again for every past round
            await wait.for_(seconds=30)
        return [len(polled), len(asked) > 2]

    return Program(program, [3, False], lambda got: got[0] == 3, [3, True])


@trap(5)
def going_on_as_a_fresh_run(_: House) -> Program:
    rounds: list[int] = []

    @task
    async def program(payload: int) -> int:
        await step("round", rounds.append, payload)
        await wait.for_(days=1)
        if payload:
            await run.continue_as(payload - 1)
        return len(rounds)

    return Program(program, 3, payload=2)


@trap(6)
def nothing_is_raised_to_suspend(_: House) -> Program:
    seen: list[str] = []

    @task
    async def program() -> list[str]:
        try:
            await wait.for_(days=1)
            await step("between", nothing)
            await wait.for_(days=1)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
        finally:
            seen.append("finally")
        return seen

    return Program(program, ["finally"])


@trap(7)
def swallowing_a_cancel(_: House) -> Program:
    swallowed: list[int] = []

    async def cancel(run_id: str) -> None:
        await runs.cancel(run_id)

    @task
    async def program(ctx: RunContext) -> str:
        await step("begin", nothing)
        await wait.for_(days=1)
        await raised(step("cancel", cancel, ctx.run.id))
        for _ in range(3):
            try:
                await asyncio.sleep(60)
                await wait.for_(days=1)
            except BaseException:
                swallowed.append(1)
        return "never"

    return Program(program, "TASK_RUN_CANCELLED")


@trap(8, env="dev")
def a_timeout_of_asyncio(_: House) -> Program:
    @task
    async def program() -> str:
        token = await wait.create_token()
        return await raised(asyncio.wait_for(wait.for_token(token), 0.02))

    # a replay begins it anew, and a run that is kept in no process has no timer at all: it would wait for ever
    return Program(program, "UndurableTimeout", replayed=UNENDING)


@trap(8)
def a_timeout_of_ours(_: House) -> Program:
    @task
    async def program() -> str:
        token = await wait.create_token()
        late = await wait.for_token(token, timeout="1h")
        await wait.for_(days=1)
        return late.error.name

    return Program(program, "WaitTimedOut")


@trap(9)
def a_sibling_that_fails(_: House) -> Program:
    delivered: list[int] = []

    @task
    async def child() -> None:
        await wait.for_(hours=1)

    async def waits() -> None:
        await child.trigger_and_wait()
        delivered.append(1)

    async def fails() -> None:
        await step("work", nothing)
        raise ValueError("no")

    @task
    async def program() -> list[Any]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                group.create_task(fails())
        except* ValueError:
            pass
        await wait.for_(days=1)  # the child is over by then
        return [len(delivered), await step("after", name, "after")]

    return Program(program, [0, "after"])


@trap(10)
def two_children_that_fail(_: House) -> Program:
    @task
    async def child(payload: int) -> None:
        await wait.for_(hours=payload)
        raise ValueError(f"child {payload}")

    @task
    async def program() -> str:
        said = ""
        try:
            await asyncio.gather(child.trigger_and_wait(30).unwrap(), child.trigger_and_wait(1).unwrap())
        except Exception as error:
            said = str(error).rpartition(": ")[2]
        await wait.for_(days=3)
        return await step("said", name, said)

    return Program(program, "child 1")


@trap(11)
def a_cache_of_the_process(_: House) -> Program:
    """One process plays all here, so each execution has a cache of its own, and what it finds is what it put there itself."""
    here: list[dict[str, str]] = []

    @task
    async def program() -> list[Any]:
        here.append({})
        cache = here[-1]
        cache["asked"] = await step("ask", name, "the answer")
        await wait.for_(days=1)
        return [cache, len(here) > 1]

    return Program(program, [{"asked": "the answer"}, False], [{"asked": "the answer"}, True])


@trap(13)
def a_path_given_by_a_step(_: House) -> Program:
    """Each execution is on a machine of its own: it begins with an empty folder."""
    folder = Path(mkdtemp())

    def write() -> str:
        (folder / "report").write_text("text")
        return str(folder / "report")

    def read(path: str) -> str:
        return Path(path).read_text()

    @task
    async def program() -> list[Any]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        text = await step("contents", lambda: read(write()))
        (folder / "report").unlink(missing_ok=True)
        path = await step("path", write)
        await wait.for_(days=1)
        return [text, Path(path).exists()]

    return Program(program, ["text", True], lambda got: got[0] == "text", ["text", False])


@trap(14)
def a_result_that_is_changed(_: House) -> Program:
    seen: list[Any] = []

    def mixed() -> list[Any]:
        return [(1, 2), {3: "x"}]

    @task
    async def program() -> list[Any]:
        got = await step("made", mixed)
        seen.append(repr(got))
        got.append("mine")
        await wait.for_(days=1)
        return [got, len(set(seen))]

    return Program(program, [[[1, 2], {"3": "x"}, "mine"], 1])


@trap(15)
def errors_of_steps_and_children(_: House) -> Program:
    class Custom(Exception):
        def __init__(self, *, needs: int) -> None:
            super().__init__(needs)

    def fails() -> None:
        raise Custom(needs=1)

    def builtin() -> None:
        raise KeyError("gone")

    @task
    async def child() -> None:
        raise Custom(needs=1)

    @task
    async def program() -> list[str]:
        got = [await raised(step("own", fails)), await raised(step("builtin", builtin)), await raised(child.trigger_and_wait().unwrap())]
        await wait.for_(days=1)
        return got

    return Program(program, ["StepFailed", "KeyError", "SubtaskFailed"])


@trap(16)
def a_step_inside_a_step(_: House) -> Program:
    async def nested() -> None:
        await step("inner", nothing)

    async def waits() -> None:
        await wait.for_(seconds=1)

    @task
    async def program() -> list[str]:
        got: list[str] = []
        for fn in (nested, waits):
            try:
                await step("outer", fn)
            except Exception as error:
                got.append(str(error).split(":")[1].strip() if "NestedDurableOpError" in str(error) else type(error).__name__)
        await wait.for_(days=1)
        return got

    return Program(program, ["NestedDurableOpError"] * 2)


@trap(17)
def a_stream_inside_a_step(_: House) -> Program:
    read: list[int] = []

    async def words() -> AsyncIterator[str]:
        for word in ("it", "was", "read"):
            read.append(1)
            yield word

    async def joined() -> str:
        return " ".join([word async for word in words()])

    @task
    async def program() -> list[Any]:
        text = await step("read", joined)
        await wait.for_(days=1)
        return [text, len(read), await raised(step("generator", words))]

    return Program(program, ["it was read", 3, "NotSerializableError"])


@trap(19)
def one_name_for_two_things(_: House) -> Program:
    done: list[str] = []

    def work(what: str) -> str:
        done.append(what)
        return what

    async def branch(what: str) -> str:
        return await step("work", work, what)

    @task
    async def program() -> list[Any]:
        got = await asyncio.gather(branch("left"), branch("right"), branch("left"))
        await wait.for_(days=1)
        return [*got, sorted(done)]

    # what had run and was not recorded yet runs again
    return Program(program, ["left", "right", "left", ["left", "left", "right"]], lambda got: got[:3] == ["left", "right", "left"])


@trap(20)
def arguments_that_are_no_json(_: House) -> Program:
    class Thing:
        """Its repr, id and hash differ each time."""

    @task
    async def program() -> str:
        got = await step("work", lambda *_: "done", {"b": Thing(), "a": {"x", "y", "z"}}, os.getpid)
        await wait.for_(days=1)
        return got

    return Program(program, "done")


@trap(21)
def effects_outside_of_steps(_: House) -> Program:
    outside: list[int] = []
    inside: list[str] = []

    def effect() -> None:
        inside.append(step.idempotency_key)

    @task
    async def program() -> list[int]:
        outside.append(1)
        await step("effect", effect)
        await wait.for_(days=1)
        return [len(outside), len(inside)]

    return Program(program, [1, 1], [2, 1])


@trap(22)
def parent_and_child_in_one_slot(_: House) -> Program:
    narrow = queue("narrow", concurrency_limit=1)

    @task(queue=narrow)
    async def child() -> str:
        await wait.for_(hours=1)
        return "child"

    @task(queue=narrow)
    async def program() -> str:
        return await child.trigger_and_wait().unwrap()

    return Program(program, "child")


@trap(23)
def a_failed_attempt_leaves_children(house: House) -> Program:
    children: list[str] = []

    @task
    async def child(payload: str, ctx: RunContext) -> str:
        children.append(payload)
        await wait.for_(days=9)
        return payload

    @task(retry=Retry(max_attempts=2, min_timeout=0.001))
    async def program(ctx: RunContext) -> list[str]:
        await child.trigger("plain")
        await child.trigger("keyed", idempotency_key=idempotency_key("once"))
        kept = await step("kept", name, "kept")
        if not begun:
            begun.append(1)
            raise ConnectionError("once")
        await wait.for_(hours=1)
        return [kept]

    begun: list[int] = []

    async def holds() -> None:
        await house.until("SELECT 1 FROM (SELECT count(*) AS n FROM runs WHERE finished_at IS NULL) found WHERE n = 0")
        assert sorted(set(children)) == ["keyed", "plain"]

    return Program(program, ["kept"], holds=holds)


@trap(24)
def the_worker_has_another_clock(house: House) -> Program:
    """The worker's clock stands still in days, the server's is years away and jumps."""
    began = house.clock.at

    @task
    async def program() -> list[Any]:
        await wait.for_(days=400)
        passed = datetime.now(UTC) - datetime.fromtimestamp(began / 1_000, UTC)
        return [(house.clock.at - began) // 86_400_000, abs(passed.days) > 0]

    return Program(program, [400, True])


@trap(25)
def many_children(house: House) -> Program:
    @task
    async def child(payload: int) -> int:
        return payload

    @task
    async def program() -> list[int]:
        one = await asyncio.gather(*[child.trigger_and_wait(i).unwrap() for i in range(4)])
        return [*one, *[r.output for r in (await child.batch_trigger_and_wait(range(30))).runs]]

    return Program(program, [*range(4), *range(30)])


@trap(26)
def one_key_for_every_try(_: House) -> Program:
    keys: list[str] = []

    def effect(what: str) -> str:
        keys.append(step.idempotency_key)
        return what

    @task
    async def program() -> list[int]:
        await step("pay", effect, "a")
        await step("pay", effect, "b")
        await wait.for_(days=1)
        return [len(set(keys))]

    return Program(program, [2])


@trap(27)
def threads_and_processes_of_the_task(_: House) -> Program:
    def said(said: Callable[[str], Any]) -> None:
        try:
            run.now()
            said("worked")
        except OutsideRunError:
            said("OutsideRunError")

    def threaded() -> str:
        got: list[str] = []
        thread = threading.Thread(target=said, args=(got.append,))
        thread.start()
        thread.join()
        return got[0]

    def forked() -> str:
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            said(lambda text: os.write(writes, text.encode()))
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writes)
        with os.fdopen(reads) as pipe:
            return pipe.read()

    @task
    async def program() -> list[str]:
        await step("first", nothing)
        got = [threaded(), forked()]
        await wait.for_(days=1)
        return got

    return Program(program, ["OutsideRunError"] * 2)
