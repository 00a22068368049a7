"""HTTPS with a certificate authority of our own, a proxy, and who gives tokens: OAuth endpoint and metadata server."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import itertools
import json
import select
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import jwt

from tests.http_server import Answering, serving

EMAIL = "robot@project.iam.gserviceaccount.com"
#: A user's.
REFRESH = "refresh"
#: Seconds before its end from which google-auth takes a token for expired.
EARLY = 225
#: Whom service accounts write to, whatever their `token_uri` is.
_AUDIENCE = "https://oauth2.googleapis.com/token"


class Authority:
    """Signs certificates of servers.

    Args:
        folder: where its own certificate, the others and their keys are kept.

    Attributes:
        bundle: its own certificate, for REQUESTS_CA_BUNDLE.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, _key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {folder.name}")])
        certificate = self._unsigned(self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        # without it an authority is none for Python 3.13, which is strict by default (ssl.VERIFY_X509_STRICT)
        certificate = certificate.add_extension(_SIGNS_CERTIFICATES, True)
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def context(self, *names: str, address: str = "") -> ssl.SSLContext:
        """For a server that is reached by these names."""
        key, folder = _key(), self._folder
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address))] if address else []
        unsigned = self._unsigned(x509.Name([]), key)
        signed = unsigned.add_extension(x509.SubjectAlternativeName(alternatives), True).sign(
            self._key, hashes.SHA256()
        )
        (folder / "server.pem").write_bytes(_pem(signed) + _private(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        return context

    def _unsigned(self, subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        names = x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key.public_key())
        return (
            names.serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Tokens:
    """Gives tokens to one service account, to one user and to whoever runs on its machine, and knows which hold.

    Attributes:
        url: of the OAuth endpoint, or of the metadata server.
        asked: requests for a token.
        seconds: that a token holds, as it is told.
        status: of the answers to requests for a token.
        wait: seconds before each answer.
        universe: status of the metadata server's answer to what cloud it is of; 404 is that of an old one.
        scope: what a service account has to ask for.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.seconds = 3600
        self.status = 200
        self.wait = 0.0
        self.universe = 404
        self.scope = "https://www.googleapis.com/auth/devstorage.read_only"
        self.closing = threading.Event()
        self._key = _key()
        self._valid = set[str]()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def holds(self, authorization: str) -> bool:
        """Whether that is one of its tokens, as a server is sent it."""
        return authorization.removeprefix("Bearer ") in self._valid

    def revoke(self) -> None:
        """None of the tokens so far holds any more."""
        with self._lock:
            self._valid.clear()

    def service_account(self, file: Path, **other: str) -> Path:
        """Writes a key as the console gives it."""
        info = {
            "type": "service_account",
            "client_email": EMAIL,
            "private_key_id": "1",
            "private_key": _private(self._key).decode(),
            "token_uri": self.url,
        }
        file.write_text(json.dumps(info | other))
        return file

    def answer(self) -> tuple[int, dict[str, Any]]:
        """To a request for a token that is in order."""
        with self._lock:
            self.asked += 1
        self.closing.wait(self.wait)
        if self.status != 200:
            return self.status, {"error": "told to refuse", "error_description": "as the test wants it"}
        with self._lock:
            token = f"token-{next(self._numbers)}"
            self._valid.add(token)
        return 200, {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}

    def proves(self, form: dict[str, str]) -> bool:
        """Whether a request comes from the service account or the user."""
        if form.get("grant_type") == "refresh_token":
            return form.get("refresh_token") == REFRESH
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        found = jwt.decode(form["assertion"], certs=public, audience=_AUDIENCE)  # type: ignore[no-untyped-call]
        return bool(found["iss"] == EMAIL and found["scope"] == self.scope)


@contextlib.contextmanager
def token_endpoint(context: ssl.SSLContext | None = None) -> Iterator[Tokens]:
    """An OAuth endpoint, for a service account's `token_uri`."""
    tokens = Tokens()

    class Endpoint(Answering):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert tokens.proves(dict(urllib.parse.parse_qsl(body)))
            status, said = tokens.answer()
            self.answer(status, json.dumps(said).encode())

    with serving(Endpoint, context) as url:
        tokens.url = f"{url}/token"
        try:
            yield tokens
        finally:
            tokens.closing.set()


@contextlib.contextmanager
def metadata_server() -> Iterator[Tokens]:
    """What every machine at Google's asks who it is, for GCE_METADATA_HOST and GCE_METADATA_IP."""
    tokens = Tokens()
    account = "/computeMetadata/v1/instance/service-accounts/default/"

    class Metadata(Answering):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if self.headers.get("Metadata-Flavor") != "Google":
                self.answer(403, b"Missing Metadata-Flavor:Google header.", "text/html")
            elif path == f"{account}token":
                status, said = tokens.answer()
                self.answer(status, json.dumps(said).encode())
            elif path == account and "recursive=true" in query:
                self.answer(200, json.dumps({"email": EMAIL, "aliases": ["default"], "scopes": []}).encode())
            elif path == "/computeMetadata/v1/project/project-id":
                self.answer(200, b"project", "application/text")
            elif path == "/computeMetadata/v1/universe/universe-domain":
                self.answer(tokens.universe, b"elsewhere.example", "application/text")
            elif path in ("/", ""):
                self.answer(200, b"computeMetadata/\n", "application/text")
            else:
                self.answer(404, b"not found", "text/html")

        def send_response(self, code: int, message: str | None = None) -> None:
            super().send_response(code, message)
            self.send_header("Metadata-Flavor", "Google")

    with serving(Metadata) as url:
        tokens.url = url
        try:
            yield tokens
        finally:
            tokens.closing.set()


@dataclass
class Tunnels:
    """A proxy for CONNECT that wants a name and a password.

    Attributes:
        url: with both, for HTTPS_PROXY.
        made: where tunnels lead to, as they were asked for.
    """

    url: str = ""
    made: list[str] = field(default_factory=list)


@contextlib.contextmanager
def tunnelling(instead: Mapping[str, str] | None = None) -> Iterator[Tunnels]:
    """A running proxy; some of its tunnels lead elsewhere (host and port by host and port)."""
    tunnels, expected = Tunnels(), "Basic " + base64.b64encode(b"us%er:pass:word").decode()

    class Connect(Answering):
        def do_CONNECT(self) -> None:
            if self.headers.get("Proxy-Authorization") != expected:
                self.answer(407, b"")
                return
            tunnels.made.append(self.path)
            host, _, port = (instead or {}).get(self.path, self.path).rpartition(":")
            with socket.create_connection((host, int(port)), 10) as upstream:
                self.send_response(200, "Connection established")
                self.end_headers()
                self._pass(upstream)
            self.close_connection = True

        def _pass(self, upstream: socket.socket) -> None:
            ends = {self.connection: upstream, upstream: self.connection}
            while ready := select.select(list(ends), [], [], 30)[0]:
                for end in ready:
                    data = end.recv(65_536)
                    if not data:
                        return
                    ends[end].sendall(data)

    with serving(Connect) as url:
        tunnels.url = url.replace("http://", "http://us%25er:pass%3Aword@")
        yield tunnels
