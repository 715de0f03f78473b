"""A zygote and its processes of one run each, as nodes. The executor that relays between them and the server is the real one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from outlast.config import Config
from outlast.model.messages import FromWorker, ToWorker, decode_to_worker, encode_frame
from outlast.worker.connection import Connection
from outlast.worker.control import Ended, FrameLine, Ready, TaskTerms, Terms
from outlast.worker.core import ExecutorCore
from outlast.worker.nursery import Nursery
from outlast.worker.single import NUMBERS, Birth
from tests.simulation.loop import NODE, NOWHERE, Died, Node
from tests.simulation.programs import manifest

if TYPE_CHECKING:
    from tests.simulation.nodes import Worker

LINE_SECONDS = 0.0005


class SimulatedNursery(Nursery):
    def __init__(self, worker: Worker, *_: Any, on_ended: Callable[[Ended], None], **__: Any) -> None:
        parent = NODE.get()
        assert parent is not None
        self._worker = worker
        self._ended = on_ended
        self._parent = parent
        self._zygote: Node | None = None
        self._children: dict[int, Node] = {}
        terms = {d.id: TaskTerms(None, d.retry, None, d.kind == "process") for d in manifest(worker.hash).tasks}
        self.terms = Terms(terms, worker.world.plan.cold_after or 0.0, False)

    async def start(self) -> Ready | None:
        self._zygote = Node(f"{self._parent.name}.z", self._parent.loop, self._parent)
        await asyncio.sleep(self._worker.world.chance.uniform(0.1, 0.5))
        return Ready(manifest(self._worker.hash), []) if self._zygote.alive else None

    @property
    def pid(self) -> int | None:
        return None

    async def make(self, number: int) -> FrameLine:
        zygote = self._zygote
        if zygote is None or not zygote.alive:
            raise OSError("the zygote has ended")
        node = self._children[number] = Node(f"{zygote.name}{number}", zygote.loop, zygote)
        ours, theirs = _Line(zygote.loop), _Line(zygote.loop)
        ours.other, theirs.other = theirs, ours
        node.on_death += [partial(ours.post, None), partial(self._say_ended, number)]
        node.spawn(self._run(node, theirs))
        return ours

    def end_one(self, number: int) -> None:
        if number in self._children:
            self._children[number].crash()

    async def ended(self) -> int | None:
        assert self._zygote is not None
        await asyncio.shield(self._zygote.died)
        return -9

    def kill(self) -> None:
        if self._zygote is not None:
            self._zygote.crash()

    def _say_ended(self, number: int) -> None:
        """By the zygote, unless it ends, too."""
        if self._zygote is not None and self._zygote.alive and self._parent.alive:
            self._parent.spawn(self._tell(number))

    async def _tell(self, number: int) -> None:
        await asyncio.sleep(LINE_SECONDS)
        self._ended(Ended(number, -9))

    async def _run(self, node: Node, line: _Line) -> None:
        told = await line.get()
        assert told is not None
        birth = msgspec.msgpack.decode(told, type=Birth)
        core = ExecutorCore(
            birth.executor, config=Config(), is_dev=False, async_slots=1, thread_slots=1, first_number=birth.number << NUMBERS, alone=True,
        )  # fmt: skip
        core.idle.clear()
        serving = node.loop.create_task(core.serve(_Connection(line), "", ""))
        await asyncio.wait([serving, node.loop.create_task(core.idle.wait())], return_when=asyncio.FIRST_COMPLETED)
        await core.outbox.flushed()
        node.crash()
        raise Died


class _Line(FrameLine):
    """A socket pair in memory."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.other: _Line | None = None
        self._bodies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._on_its_way: deque[bytes | None] = deque()  # timers of one moment come in any order

    def put(self, body: bytes) -> None:
        assert self.other is not None
        self.other.post(body)

    def post(self, body: bytes | None) -> None:
        self._on_its_way.append(body)
        self._loop.call_later(LINE_SECONDS, self._arrive, context=NOWHERE)

    def _arrive(self) -> None:
        self._bodies.put_nowait(self._on_its_way.popleft())

    async def get(self) -> bytes | None:
        return await self._bodies.get()

    def close(self) -> None:
        return


class _Connection(Connection):
    def __init__(self, line: _Line) -> None:
        self._line = line

    async def send(self, messages: Sequence[FromWorker]) -> None:
        self._line.put(encode_frame(messages))

    async def receive(self) -> list[ToWorker]:
        body = await self._line.get()
        assert body is not None
        return decode_to_worker(body)

    async def close(self) -> None:
        return
