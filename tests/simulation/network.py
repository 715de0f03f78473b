"""The network in memory: frames take their time, connections break, frames come twice, partitions hold everything back.

Inside one connection the order is kept, as TCP keeps it; between connections nothing is certain.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from outlast.model.messages import (
    Abandoned,
    Blocked,
    Cold,
    Completion,
    Done,
    Op,
    Refused,
    Release,
    Resume,
    RunPush,
    decode_from_worker,
    decode_to_worker,
    encode_frame,
)
from outlast.server.connected import ConnectionClosed as ServerSideClosed
from outlast.worker.connection import ConnectionClosed as WorkerSideClosed
from tests.simulation.loop import NOWHERE, Node, VirtualLoop

TWICE = (Done, Release, Op, Blocked, Abandoned, Cold, RunPush, Resume, Completion)  # "may be sent twice"
STORM = 40  # refusals with the same words, which name the run
SILENCE = 30.0  # seconds until a peer that vanished without a word is noticed (WebSocket pings)


@dataclass(slots=True)
class Weather:
    """What the network does to frames. All chances are per frame."""

    latency: float = 0.002  # seconds, in the mean
    slow: float = 0.0  # chance of a frame that takes up to two seconds
    cut: float = 0.0  # chance that the frame is lost with its connection
    twice: float = 0.0


class Network:
    def __init__(self, loop: VirtualLoop, chance: Random) -> None:
        self.loop = loop
        self.chance = chance
        self.weather = Weather()
        self._cut_off: dict[frozenset[str], float] = {}  # pairs of machines, until when
        self._alone: dict[str, float] = {}  # machines that reach nobody, until when
        self._open: set[End] = set()
        self._refused: Counter[str] = Counter()

    def latency(self) -> float:
        w, chance = self.weather, self.chance
        if w.slow and chance.random() < w.slow:
            return chance.uniform(0.05, 2.0)
        return chance.expovariate(1 / w.latency)

    def partition(self, a: str, b: str, seconds: float) -> None:
        self._cut_off[frozenset((a, b))] = self.loop.time() + seconds

    def isolate(self, name: str, seconds: float) -> None:
        self._alone[name] = self.loop.time() + seconds

    def healed_at(self, a: Node, b: Node) -> float:
        x, y = machine(a), machine(b)
        alone = max(self._alone.get(x, 0.0), self._alone.get(y, 0.0)) if self._alone else 0.0
        return max(alone, self._cut_off.get(frozenset((x, y)), 0.0))

    def is_cut(self, a: Node, b: Node) -> bool:
        return self.healed_at(a, b) > self.loop.time()

    def pair(self, worker: Node, server: Node) -> tuple[End, End]:
        """(the worker's end, the server's)"""
        ours, theirs = End(self, worker, WorkerSideClosed, decode_to_worker), End(self, server, ServerSideClosed, decode_from_worker)
        ours.other, theirs.other = theirs, ours
        for end in (ours, theirs):
            self._open.add(end)
            end.node.on_death.append(end.vanish)
        return ours, theirs

    def reset_some(self, share: float) -> None:
        """A load balancer restarts: some connections are reset at both ends."""
        for end in sorted(self._open, key=lambda e: e.number):
            if end.node.alive and self.chance.random() < share:
                end.cut()

    def stall_some(self, share: float, seconds: float) -> None:
        """In one direction each."""
        for end in sorted(self._open, key=lambda e: e.number):
            if self.chance.random() < share:
                end.stall(seconds)

    def look_for_storms(self, messages: Sequence[Any]) -> None:
        """Who is refused may ask again, but not for ever and at once."""
        for message in messages:
            if isinstance(message, Refused) and message.code != "unavailable":
                self._refused[message.message] += 1
                if self._refused[message.message] == STORM:
                    self.loop.failures.append(f"a storm: {STORM} times {message.code}, {message.message}")

    def forget(self, end: End) -> None:
        self._open.discard(end)


def machine(node: Node) -> str:
    """Executors live on the machine of their worker."""
    return node.name if node.parent is None else machine(node.parent)


class End:
    """One end of a channel."""

    _numbers = 0

    def __init__(self, network: Network, node: Node, closed: type[Exception], decode: Any) -> None:
        End._numbers += 1
        self.number = End._numbers
        self.network = network
        self.node = node
        self.other: End | None = None
        self.is_closed = False
        self._closed = closed
        self._decode = decode
        self._frames: asyncio.Queue[list[Any] | None] = asyncio.Queue()
        self._last = 0.0  # nothing arrives before what was sent earlier

    async def send(self, messages: Sequence[Any]) -> None:
        if self.is_closed:
            raise self._closed
        self.network.look_for_storms(messages)
        chance, weather = self.network.chance, self.network.weather
        if weather.cut and chance.random() < weather.cut:
            self.cut()
            raise self._closed
        data = encode_frame(messages)
        self._post(data)
        if weather.twice and chance.random() < weather.twice and all(isinstance(m, TWICE) for m in messages):
            self._post(data)

    def _post(self, data: bytes | None) -> None:
        assert self.other is not None
        loop = self.network.loop
        # timers of one moment come in any order
        self._last = max(self._last + 1e-9, loop.time() + self.network.latency(), self.network.healed_at(self.node, self.other.node))
        loop.call_at(self._last, self.other.deliver, data, context=NOWHERE)

    def deliver(self, data: bytes | None) -> None:
        if data is None:
            self._end()
        elif not self.is_closed:
            self._frames.put_nowait(self._decode(data))

    async def receive(self) -> list[Any]:
        if self.is_closed and self._frames.empty():
            raise self._closed
        frame = await self._frames.get()
        if frame is None:
            raise self._closed
        return frame

    async def close(self) -> None:
        if not self.is_closed:
            self._end()
            self._post(None)

    def stall(self, seconds: float) -> None:
        """What it sends from now on arrives when these are over."""
        self._last = max(self._last, self.network.loop.time() + seconds)

    def cut(self) -> None:
        """Reset: what is on its way is lost in both directions."""
        assert self.other is not None
        self._end()
        self.other._end()

    def vanish(self) -> None:
        """Its process died. The other side hears of it at once, or, when the network is cut, from the silence."""
        assert self.other is not None
        if self.is_closed:
            return
        self.is_closed = True
        self.network.forget(self)
        loop = self.network.loop
        after = SILENCE if self.network.is_cut(self.node, self.other.node) else self.network.latency()
        loop.call_at(max(self._last, loop.time() + after), self.other.deliver, None, context=NOWHERE)

    def _end(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.network.forget(self)
            self._frames.put_nowait(None)
