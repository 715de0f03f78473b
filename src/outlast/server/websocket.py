"""The channel over a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from outlast.engine.engine import Engine
from outlast.model.messages import MAX_FRAME_MESSAGES, FromWorker, ToWorker, decode_from_worker, encode_frame
from outlast.server.channel import Channel
from outlast.server.connected import ConnectionClosed
from outlast.store import keys
from outlast.store.database import DatabaseError

PATH = "/api/outlast/v1/channel"


class WebSocketConnection:
    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, messages: Sequence[ToWorker]) -> None:
        try:
            await self._socket.send_bytes(encode_frame(messages))
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise ConnectionClosed from error

    async def receive(self) -> list[FromWorker]:
        try:
            frame = decode_from_worker(await self._socket.receive_bytes())
        except (WebSocketDisconnect, RuntimeError, KeyError) as error:
            raise ConnectionClosed from error
        except (msgspec.DecodeError, RecursionError) as error:
            await self._socket.close(1007, "not a frame of this protocol")
            raise ConnectionClosed from error
        if len(frame) > MAX_FRAME_MESSAGES:  # its bytes are bounded by the WebSocket's own limit
            await self._socket.close(1009, f"a frame has at most {MAX_FRAME_MESSAGES} messages")
            raise ConnectionClosed
        return frame

    async def close(self) -> None:
        if self._socket.client_state is WebSocketState.CONNECTED and self._socket.application_state is WebSocketState.CONNECTED:
            try:
                await self._socket.close()
            except (WebSocketDisconnect, RuntimeError, OSError):
                return


def endpoint(engine: Engine, channel: Channel) -> Callable[[WebSocket], Awaitable[None]]:
    """A Starlette WebSocket endpoint: with an API key for supervisors, without one for executors, which prove themselves by `join`."""

    async def serve(socket: WebSocket) -> None:
        header = socket.headers.get("authorization")
        env_id: int | None = None
        if header is not None:
            scheme, _, key = header.partition(" ")
            try:
                found = await engine.read(lambda tx: keys.find(tx, key)) if scheme == "Bearer" and keys.PATTERN.fullmatch(key) else None
            except DatabaseError:  # to close it here would say that the key is refused, and the worker would end
                return await socket.send_denial_response(Response(status_code=503))
            now = engine.clock.now()
            if found is None or found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now):
                return await socket.close(4401, "unauthorized")
            if found.role not in ("operator", "worker"):
                return await socket.close(4403, f"this key is for something else: its role is {found.role}")
            env_id = found.env_id
        await socket.accept()
        return await channel.serve(WebSocketConnection(socket), env_id)

    return serve
