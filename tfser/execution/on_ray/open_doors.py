"""Checks whether a Ray cluster obeys anyone, before it is given work.

Whoever reaches an open cluster can run code on it. The check asks the port itself, without a token. It takes
milliseconds, and starts, submits and changes nothing. It imports no Ray and uses no proxy.
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
"""Longest wait for the answer to one question."""

LONGER_S = (15.0, 40.0)
"""Longest waits where the question is asked again: a cluster must not be refused because its head is busy."""

ADVICE = (
    "on its head: (umask 077; ray get-auth-token --generate > /dev/null); then, on every node, export "
    "RAY_AUTH_MODE=token and start Ray again; copy ~/.ray/auth_token to every node and to this machine"
)
"""How to close an open cluster."""

_METHODS = {"gcs": "/ray.rpc.NodeInfoGcsService/CheckAlive", "client": "/ray.rpc.RayletDriver/ClusterInfo"}
"""Calls that only read, by kind of port. A Ray that has a token answers callers without it UNAUTHENTICATED."""

_REFUSED = ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")
"""Statuses of a port that does not obey the caller."""

_DEFAULT_PORTS = {"ray": 10001, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Parts of a cluster's address."""

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
    """Take apart an address, as ``--address``, RAY_ADDRESS and RAY_API_SERVER_ADDRESS take it.

    >>> parse("ray://head.lab:10001").kind
    'client'

    Args:
        address: ``host:port``, ``ray://host:port`` or ``http://host:port``; not ``auto`` or ``local``.

    Raises:
        ValueError: it is none of these.
    """
    scheme, separator, _ = address.partition("://")
    legal = "there are host:6379, ray://host:10001, http://host:8265 (job API) and auto"
    wrong = f"{address!r} is no address of a Ray cluster; {legal}"
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
    """Return where a person set an address: in RAY_ADDRESS, or after --address."""
    return "RAY_ADDRESS" if address == os.environ.get("RAY_ADDRESS") else "--address"


def no_driver_at(address: str) -> str | None:
    """Return why a sweep cannot be driven from here through that address, and what to type instead, or ``None``.

    Args:
        address: as a person typed it.
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
    alone = "without it a Ray of its own starts here"
    return f"{option(address)}: {address} is {what}; {legal}; {alone}; to send it there: {submit}"


def found(address: str) -> str | None:
    """Return what ``auto`` and ``local`` stand for on this machine, and any other address as it is.

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
    """Return why a cluster must not be given work: it is on another machine and obeys callers without a token.

    Args:
        address: as ``parse`` takes it, or ``auto`` or ``local``.

    Returns:
        The reason in a sentence, also where nothing shows that the cluster asks for a token. ``None`` where it asks for
        one, where the address is of the loopback interface, and where nothing answers: connecting then fails by itself,
        or callers need certificates (RAY_USE_TLS).
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
    """Return why a cluster must not be given work, as ``open_to_anyone``, on the loopback interface too.

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
        if status in _REFUSED:
            return None
        unclear = ("UNIMPLEMENTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")
        what, is_open = "the cluster", status not in unclear
    if is_open:
        return f"{what} at {address} obeys callers without a token: anyone who reaches it can run code there"
    return f"nothing shows that {what} at {address} asks for a token: a call without one was answered {status}"


def accepts(address: str, token: str) -> bool:
    """Return whether the port takes the token.

    Raises:
        ValueError: see ``parse``.
    """
    place = parse(address)
    if place.kind == "jobs":
        return job_api_status(address, token) == 200
    return rpc_status(place.target, _METHODS[place.kind], token) not in _REFUSED


def reachable(address: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Return why no connection can be made, or ``None``.

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
    """Return whether ``host`` has addresses, all of them of the loopback interface."""
    try:
        names = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(names) and all(is_loopback_ip(name) for name in names)


def is_loopback_ip(text: str) -> bool:
    """Return whether an IP address is of the loopback interface; it may be an IPv4 address mapped into IPv6."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def rpc_status(target: str, method: str, token: str | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """Return the name of the gRPC status that an empty call ends with.

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
    """Return a page's status and first 2000 characters, or ``None`` where nothing answers; follow no redirect."""
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
    """Return the status with which the job API answers a question for its version, or ``None``."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = http_status(f"{address.rstrip('/')}/api/version", headers)
    return answer[0] if answer else None


def token_path() -> Path:
    """Return the file that Ray reads the token from: RAY_AUTH_TOKEN_PATH, else ``~/.ray/auth_token``."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(os.path.expanduser(named or "~/.ray/auth_token"))


def own_token() -> str | None:
    """Return the token that Ray would use here, RAY_AUTH_TOKEN or that of ``token_path``; ``None`` without one."""
    said = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if said:
        return said
    try:
        return token_path().read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it is an answer too, as a login page is not the cluster."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


def _start(response: Any) -> str:
    try:
        return bytes(response.read(2000)).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
