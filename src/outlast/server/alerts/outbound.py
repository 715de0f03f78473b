"""Requests to addresses that users chose: only to the public internet, unless the deployment allows a network of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

import httpx

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_URL_CHARS = 2_048
PORTS = (80, 443)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unsafe(Exception):
    """An address that must not be asked; the message is for whoever chose it."""


def networks(text: str | None) -> list[Network]:
    """The networks a deployment allows, from `10.0.0.0/8,192.168.1.7`.

    Raises:
        ValueError: one of them is none.
    """
    return [ipaddress.ip_network(part.strip()) for part in (text or "").split(",") if part.strip()]


def parts(url: str) -> tuple[str, int]:
    """(host, port) of an address that may be asked as far as its text tells.

    Raises:
        Unsafe: another scheme, a user in it, or no host.
    """
    if len(url) > MAX_URL_CHARS or any(ord(char) <= 32 or ord(char) == 127 for char in url) or "\\" in url:
        raise Unsafe("the address is too long, or holds characters that no address has")
    try:
        split = urlsplit(url)
        port = split.port or (443 if split.scheme == "https" else 80)
    except ValueError as error:
        raise Unsafe(f"the address cannot be read: {error}") from None
    if split.scheme not in ("http", "https") or not split.hostname:
        raise Unsafe("the address must begin with http:// or https:// and name a host")
    if split.username is not None or split.password is not None:
        raise Unsafe("the address must not hold a user or password")
    return split.hostname, port


def check_ip(text: str, port: int, allowed: Sequence[Network]) -> None:
    """
    Raises:
        Unsafe: not of the public internet, nor of an allowed network; or a port that is not for the web.
    """
    ip = _real(ipaddress.ip_address(text.partition("%")[0]))
    if any(ip.version == network.version and ip in network for network in allowed):
        return
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        raise Unsafe("the address leads to a private network: set OUTLAST_ALLOW_PRIVATE_WEBHOOKS to allow it")
    if port not in PORTS:
        raise Unsafe("only the ports 80 and 443 are asked")


def _real(ip: Ip) -> Ip:
    """The IPv4 address inside an IPv6 one, in all the ways there are."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip.sixtofour is not None:
            return ip.sixtofour
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


async def resolve(url: str, allowed: Sequence[Network]) -> str:
    """An IP address of the host, after all of them were checked: what is connected to is what was looked at.

    Raises:
        Unsafe: one of them must not be asked.
        OSError: the name has none.
    """
    host, port = parts(url)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check_ip(address, port, allowed)
    return addresses[0]


@cache
def trusted(ca_file: str | None) -> ssl.SSLContext:
    """Who may sign the certificates of those we speak with: the well-known, this machine's, and those of a file.

    Read once by a process, since it takes 90 ms.

    Raises:
        OSError: the file cannot be read, or holds no certificate.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


async def post(url: str, body: bytes, headers: dict[str, str], allowed: Sequence[Network], trust: ssl.SSLContext) -> int:
    """Send it, and give the status. Redirects are not followed, answers are not kept.

    Raises:
        Unsafe, OSError, httpx.HTTPError: it was not sent, or not answered in time.
    """
    async with asyncio.timeout(TIMEOUT_SECONDS):
        address = await resolve(url, allowed)
        host, _ = parts(url)
        target = httpx.URL(url).copy_with(host=address)
        sent = {"content-type": "application/json", "user-agent": "outlast", **headers, "host": httpx.URL(url).netloc.decode()}
        extensions = {"sni_hostname": host}
        client = httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=False, timeout=TIMEOUT_SECONDS)
        async with client, client.stream("POST", target, content=body, headers=sent, extensions=extensions) as response:
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    break
            return response.status_code
