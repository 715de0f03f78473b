"""Those who are told: a web server and a mail server of our own, with and without TLS, and an authority that signs for them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Receiver:
    """A real HTTP server that keeps what it is sent and answers as it is told; `endless`: with a body that never ends."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.endless = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "http://169.254.169.254/")
                self.end_headers()
                while receiver.endless:
                    try:
                        self.wfile.write(b"x" * 8_192)
                    except OSError:
                        return

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Quiet(HTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # a handshake that the other side broke off

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.endless = False
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


class Authority:
    """Signs a certificate for localhost; `file` is what somebody who trusts it has."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("an authority of tests")
        ca = _certificate(name, name, key, key, x509.BasicConstraints(ca=True, path_length=0))
        self.file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        mine = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signed = _certificate(_name("localhost"), name, mine, key, names)
        pair = folder / "pair.pem"
        private = mine.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pair.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, extension: x509.ExtensionType) -> x509.Certificate:
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(9))
    return made.add_extension(extension, critical=False).sign(signer, hashes.SHA256())


class MailServer:
    """Speaks enough SMTP to be sent a mail by a real client. With `tls` it offers STARTTLS, and takes a password."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, wants_login: bool = False) -> None:
        self.mails: list[str] = []
        self.said: list[str] = []  # every command, as it came
        self.secure = False
        self._tls = tls
        self._wants_login = wants_login

    async def __aenter__(self) -> MailServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 tests\r\n")
        while line := (await reader.readline()).decode().strip():
            self.said.append(line)
            match line.split()[0].upper():
                case "EHLO":
                    offers = ["STARTTLS"] if self._tls and not self.secure else []
                    offers += ["AUTH PLAIN"] if self._wants_login else []
                    writer.write("".join(f"250-{line}\r\n" for line in ["tests", *offers]).encode() + b"250 SMTPUTF8\r\n")
                case "STARTTLS":
                    writer.write(b"220 go\r\n")
                    await writer.drain()
                    assert self._tls is not None
                    await writer.start_tls(self._tls)
                    self.secure = True
                case "DATA":
                    writer.write(b"354 go\r\n")
                    self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                    writer.write(b"250 taken\r\n")
                case "AUTH":
                    writer.write(b"235 welcome\r\n")
                case "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 fine\r\n")
        writer.close()
