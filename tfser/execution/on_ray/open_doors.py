"""Whether a Ray cluster obeys anyone: asked before this project gives it work.

Who reaches an open cluster runs code on it. The question is put to the port itself, without a token, and costs
milliseconds; it starts, submits and changes nothing. Ray is not imported for it, nor is a proxy used.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
"""Of one question."""

LONGER_S = (15.0, 40.0)
"""Of the same question once more, where a busy head did not answer in time: a cluster must not be refused for that."""

ADVICE = (
    "on its head: (umask 077; ray get-auth-token --generate); then, on every node, export RAY_AUTH_MODE=token and start Ray again; "
    "copy ~/.ray/auth_token to every node and to this machine"
)
"""What closes an open cluster."""

_METHODS = {"gcs": "/ray.rpc.NodeInfoGcsService/CheckAlive", "client": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Calls that only read, by the kind of port. With a token Ray answers a caller without it UNAUTHENTICATED."""

_DEFAULT_PORTS = {"ray": 10001, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address of a cluster, taken apart."""

    text: str
    kind: str
    """``gcs`` (host:port), ``client`` (ray://) or ``jobs`` (http:// or https://)."""
    host: str
    port: int

    @property
    def target(self) -> str:
        """Host and port; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(address: str) -> Address:
    """An address as ``--address``, RAY_ADDRESS and RAY_API_SERVER_ADDRESS take it.

    >>> parse("ray://head.lab:10001").kind
    'client'

    Args:
        address: ``host:port``, ``ray://host:port`` or ``http://host:port``; not ``auto`` or ``local``.

    Raises:
        ValueError: it is none of these.
    """
    scheme, separator, _ = address.partition("://")
    wrong = f"{address!r} is no address of a Ray cluster; there are host:6379, ray://host:10001, http://host:8265 (job API) and auto"
    try:
        parts = urlsplit(address if separator else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(wrong) from None
    scheme = scheme.lower() if separator else ""
    port = port or _DEFAULT_PORTS.get(scheme)
    if not host or not port or scheme not in ("", *_DEFAULT_PORTS):
        raise ValueError(wrong)
    return Address(text=address, kind={"": "gcs", "ray": "client"}.get(scheme, "jobs"), host=host, port=port)


def option(address: str) -> str:
    """Where an address came from, for a person: the variable, or the option that goes before it."""
    return "RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else "--address"


def no_driver_at(address: str) -> str | None:
    """Why a sweep cannot be driven from here through that address, and what to type instead; ``None`` where it can.

    Args:
        address: as a person gave it.
    """
    if address in ("auto", "local"):
        return None
    try:
        where = parse(address)
    except ValueError as error:
        return f"{option(address)}: {error}"
    if where.kind == "gcs":
        return None
    what = (
        "the job API of a cluster"
        if where.kind == "jobs"
        else "a Ray Client server, through which Ray Tune cannot be driven"
    )
    jobs = address if where.kind == "jobs" else f"http://{where.host}:8265"
    submit = f"ray job submit --address {jobs} --working-dir . -- python -m tfser.sweep ..."
    legal = "a sweep takes HOST:6379, auto or local"
    return f"{option(address)}: {address} is {what}; {legal}; without it a Ray of its own starts here; to send it there: {submit}"


def found(address: str) -> str | None:
    """What ``auto`` and ``local`` stand for on this machine; any other address is given back as it is.

    Returns:
        ``None`` for ``local``, and for ``auto`` where this machine is part of no cluster.
    """
    if address != "auto":
        return None if address == "local" else address
    from ray._private.services import canonicalize_bootstrap_address

    try:
        head = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        return None
    return str(head) if head else None


def open_to_anyone(address: str) -> str | None:
    """Why a cluster must not be given work: it is on another machine and obeys callers without a token.

    Args:
        address: as ``parse`` takes it, or ``auto`` or ``local``.

    Returns:
        The reason, in a sentence; also where nothing shows that a token is asked for. ``None`` where it is, where the
        address is of the loopback interface, and where nothing answers (connecting fails by itself; with RAY_USE_TLS,
        where callers need certificates, nothing answers a plain call either).
    """
    where = found(address)
    if where is None:
        return None
    try:
        if is_loopback(parse(where).host):
            return None
    except ValueError as error:
        return str(error)
    return answers_without_token(where)


def answers_without_token(address: str) -> str | None:
    """As ``open_to_anyone``, on the loopback interface too.

    Raises:
        ValueError: see ``parse``.
    """
    place = parse(address)
    if place.kind == "jobs":
        status: int | str | None = job_api_status(address)
        if status is None or status in (401, 403) or 300 <= int(status) < 400:
            return None
        what, is_open = "the job API", status == 200
    else:
        status = rpc_status(place.target, _METHODS[place.kind])
        for timeout_s in LONGER_S:
            if status == "DEADLINE_EXCEEDED":
                status = rpc_status(place.target, _METHODS[place.kind], timeout_s=timeout_s)
        if status in ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED"):
            return None
        what, is_open = (
            "the cluster",
            status not in ("UNIMPLEMENTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"),
        )
    if is_open:
        return f"{what} at {address} obeys callers without a token: who reaches it can run code there"
    return f"nothing shows that {what} at {address} asks for a token: a call without one was answered {status}"


def accepts(address: str, token: str) -> bool:
    """Whether the port takes the token.

    Raises:
        ValueError: see ``parse``.
    """
    place = parse(address)
    if place.kind == "jobs":
        return job_api_status(address, token) == 200
    return rpc_status(place.target, _METHODS[place.kind], token) not in (
        "UNAVAILABLE",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    )


def reachable(address: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Why no connection can be made; ``None`` where it can.

    Raises:
        ValueError: see ``parse``.
    """
    place = parse(address)
    try:
        socket.create_connection((place.host, place.port), timeout=timeout_s).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def is_loopback(host: str) -> bool:
    """Whether every address of ``host`` is of the loopback interface; one that has none is not."""
    try:
        names = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(names) and all(is_loopback_ip(name) for name in names)


def is_loopback_ip(text: str) -> bool:
    """Whether an IP address is of the loopback interface, one that is mapped into IPv6 included."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def rpc_status(target: str, method: str, token: str | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """The name of the gRPC status that an empty call ends with.

    Args:
        target: host and port.
        method: ``/package.Service/Method``.
        token: sent as Ray's clients do; ``None`` sends none.
        timeout_s: seconds until ``DEADLINE_EXCEEDED``.
    """
    import grpc  # type: ignore[import-untyped]

    headers = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(method)
        try:
            call(b"", timeout=timeout_s, metadata=headers)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def http_status(
    url: str, headers: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[int, str] | None:
    """Status and the first 2000 characters of the body; ``None`` where nothing answers in HTTP. Redirects are not followed."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(urllib.request.Request(url, headers=headers or {}), timeout=timeout_s) as response:
            return int(response.status), _start(response)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), _start(error)
    except (OSError, http.client.HTTPException):
        return None


def job_api_status(address: str, token: str | None = None) -> int | None:
    """What the job API answers to the question for its version; ``None`` where nothing answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = http_status(f"{address.rstrip('/')}/api/version", headers)
    return answer[0] if answer else None


def token_path() -> Path:
    """The file that Ray reads the token from: RAY_AUTH_TOKEN_PATH, else ``~/.ray/auth_token``."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(os.path.expanduser(named or "~/.ray/auth_token"))


def own_token() -> str | None:
    """The token that Ray would use here: RAY_AUTH_TOKEN, else that of ``token_path``; ``None`` where there is none."""
    said = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if said:
        return said
    try:
        return token_path().read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer too: a login page is not the cluster."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


def _start(response: Any) -> str:
    try:
        return bytes(response.read(2000)).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
