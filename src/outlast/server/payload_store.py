"""Where uploads lie until they are used: a folder of our own, or a bucket. Names are made by the server, never by a client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

NAME = re.compile(r"packet_[0-9a-z]{16,40}")
STALE_SECONDS = 3_600  # a half-written file of a server that was killed


class StoreFailed(Exception):
    """The store cannot be used; the message is for people."""


class PayloadStore(Protocol):
    async def put(self, name: str, data: bytes, content_type: str) -> None:
        """Durable when it returns.

        Raises:
            StoreFailed: it cannot be written.
        """
        ...

    async def get(self, name: str) -> bytes | None: ...
    async def delete(self, name: str) -> None: ...


def open_store(where: str | None, data: Path) -> PayloadStore:
    """`where` is None (a folder beside the database), a path, or s3://, gs:// or az:// and what follows.

    Raises:
        StoreFailed: it cannot be used, or obstore is not installed.
    """
    if where is not None and "://" in where:
        return Bucket(where)
    return Folder(Path(where) if where is not None else data / "payloads")


class Folder:
    """Files under one folder, which only this user may enter. Nothing is ever followed out of it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, data: bytes, content_type: str) -> None:
        await asyncio.to_thread(self._put, _checked(name), data)

    async def get(self, name: str) -> bytes | None:
        return await asyncio.to_thread(self._get, _checked(name))

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._delete, _checked(name))

    def _put(self, name: str, data: bytes) -> None:
        """Written beside, made durable, then given its name: a reader sees all of it or nothing, also after a power cut."""
        temporary = f"tmp_{secrets.token_hex(8)}"
        try:
            with self._folder(make=True) as folder:
                file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
                try:
                    with os.fdopen(file, "wb") as stream:
                        stream.write(data)
                        stream.flush()
                        os.fsync(stream.fileno())
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                    os.fsync(folder)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
        except OSError as error:
            raise StoreFailed(f"the payload folder {self._root} cannot be written: {error.strerror}") from error

    def _get(self, name: str) -> bytes | None:
        try:
            with self._folder() as folder:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
                with os.fdopen(file, "rb") as stream:
                    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                        raise StoreFailed(f"{name} in the payload folder {self._root} is no file of ours")
                    return stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:  # ELOOP: somebody planted a link
            raise StoreFailed(f"{name} in the payload folder {self._root} cannot be read: {error.strerror}") from error

    def _delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._folder() as folder:
            os.unlink(name, dir_fd=folder)

    def sweep(self) -> int:
        """Remove half-written files of servers that were killed."""
        gone = 0
        with contextlib.suppress(FileNotFoundError), self._folder() as folder:
            for name in os.listdir(folder):
                if name.startswith("tmp_") and os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < time.time() - STALE_SECONDS:
                    os.unlink(name, dir_fd=folder)
                    gone += 1
        return gone

    @contextlib.contextmanager
    def _folder(self, *, make: bool = False) -> Generator[int]:
        if make:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield folder
        finally:
            os.close(folder)


class Bucket:
    """S3, Google Cloud Storage or Azure, through obstore; credentials come from the environment, as their own tools take them."""

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise StoreFailed(f"{url} needs obstore: pip install 'outlast[cloud]'") from error
        try:
            self._store: Any = from_url(url)
        except Exception as error:  # obstore's own errors have no common public base
            raise StoreFailed(f"{url} is no payload store: {error}") from error
        self._url = url

    async def put(self, name: str, data: bytes, content_type: str) -> None:
        import obstore

        try:
            await obstore.put_async(self._store, _checked(name), data, attributes={"Content-Type": content_type})
        except Exception as error:
            raise StoreFailed(f"{self._url} cannot be written: {error}") from error

    async def get(self, name: str) -> bytes | None:
        import obstore

        try:
            found = await obstore.get_async(self._store, _checked(name))
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise StoreFailed(f"{self._url} cannot be read: {error}") from error

    async def delete(self, name: str) -> None:
        import obstore

        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(self._store, _checked(name))


def _checked(name: str) -> str:
    assert NAME.fullmatch(name), f"{name!r} is no name the server gives"
    return name
