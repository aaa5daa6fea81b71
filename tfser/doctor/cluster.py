"""Ray: whether an address answers and asks for a token, and what every node of the cluster has and reaches.

No Ray is started here. A remote cluster that obeys anyone is reported, and nothing is submitted to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

from tfser.doctor import machine, places, probe
from tfser.doctor.findings import Finding, merged, note, ok, problem, warning
from tfser.errors import counted
from tfser.execution.on_ray import open_doors

NODE_S = 90.0
"""Seconds for a node to run a task, before it counts as stuck."""

SUBMIT = "ray job submit --working-dir . -- python -m tfser.doctor"

_NUMBERS = ("torch", "torchaudio", "numpy")
"""Packages whose versions can change a score."""


class Refusal(Enum):
    """Why a cluster that answers cannot be used, in words that follow its address."""

    NO_TOKEN = "asks for a token, and there is none here"
    OTHER_TOKEN = "asks for a token, and the one that is here is not its own"
    NOT_ASKED = "cannot be asked whether it is safe"


def gates(address: str) -> dict[str, Any]:
    """Find out what answers at an address, before anything is submitted to it.

    Args:
        address: an address that ``open_doors.parse`` reads, or ``auto``.

    Returns:
        ``where`` (the address, with ``auto`` resolved; ``None`` if there is none), ``kind``, ``silent`` (why no
        connection can be made), ``open`` (why it obeys anyone), ``loopback``, ``refused`` (a ``Refusal``, or ``None``),
        ``missing`` (the import error behind ``NOT_ASKED``).
    """
    facts: dict[str, Any] = {
        "asked": address,
        "where": address,
        "kind": None,
        "silent": None,
        "open": None,
        "refused": None,
        "missing": None,
    }
    try:
        facts["where"] = where = open_doors.found(address)
        if where is None:
            return facts
        place, own = open_doors.parse(where), open_doors.own_token()
        facts.update(kind=place.kind, loopback=open_doors.is_loopback(place.host), silent=open_doors.reachable(where))
        if facts["silent"]:
            return facts
        facts["open"] = open_doors.answers_without_token(where)
        if not facts["open"] and not (own and open_doors.accepts(where, own)):
            facts["refused"] = Refusal.OTHER_TOKEN if own else Refusal.NO_TOKEN
    except ImportError as error:
        facts.update(refused=Refusal.NOT_ASKED, missing=str(error))
    return facts


def gate_findings(facts: Mapping[str, Any]) -> list[Finding]:
    """Turn the facts of ``gates`` into findings."""
    topic, where = "Ray", facts["where"]
    if where is None:
        return [
            problem(
                topic,
                f"{facts['asked']} names no Ray: this machine is part of no cluster",
                "name one with --address HOST:6379",
            )
        ]
    if facts["silent"]:
        text = f"nothing answers at {where} ({facts['silent']})"
        command = (
            "ssh -L 8265:127.0.0.1:8265 HEAD"
            if facts["kind"] == "jobs"
            else "on the head: ray start --head --disable-usage-stats"
        )
        return [problem(topic, text, f"{command}, or name another address")]
    if facts["open"]:
        then = "" if may_connect(facts) or facts["kind"] == "jobs" else "; nothing was submitted to it"
        return [problem(topic, facts["open"] + then, open_doors.ADVICE)]
    if facts["refused"] is Refusal.NOT_ASKED:
        text = f"{where} {facts['refused'].value} ({facts['missing']})"
        return [problem(topic, text, machine.install_command())]
    if facts["refused"]:
        protect = f"chmod 600 {open_doors.token_path()}; export RAY_AUTH_MODE=token"
        command = f"copy ~/.ray/auth_token from its head, then: {protect}"
        return [problem(topic, f"{where} {facts['refused'].value}", command)]
    what = "the job API" if facts["kind"] == "jobs" else "Ray"
    return [ok(topic, f"{what} at {where} answers, asks for the token and takes it")]


def may_connect(facts: Mapping[str, Any]) -> bool:
    """Tell whether the cluster may be given work, by the facts of ``gates``."""
    reached = facts["where"] is not None and not facts["silent"] and not facts["refused"] and facts["kind"] != "jobs"
    return bool(reached and (not facts["open"] or facts["loopback"]))


def nodes(address: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Connect, and run ``probe`` on every live node.

    Args:
        address: the address of a cluster that ``may_connect``.
        request: the request for ``probe.look``; each node's files get their own name.

    Returns:
        ``error`` (why there is no connection), else ``nodes``: ``name``, ``alive``, ``resources``, and for a live node
        ``facts``, ``device``, ``clock`` or ``error``.
    """
    if "RAY_AUTH_MODE" not in os.environ and open_doors.own_token():
        os.environ["RAY_AUTH_MODE"] = "token"  # as a sweep does
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray import cloudpickle

        ray.init(address=address, log_to_driver=False, logging_level="ERROR", namespace="tfser")
    except Exception as error:  # Ray says in many ways that versions differ, or that it is not there
        return {"error": probe.brief(error), "nodes": []}
    cloudpickle.register_pickle_by_value(probe)  # a node may have another tfser, or none
    try:
        found = [
            {"id": n["NodeID"], "name": n["NodeManagerAddress"], "alive": n["Alive"], "resources": dict(n["Resources"])}
            for n in ray.nodes()
        ]
        names = [n["name"] for n in found]
        for node in found:
            if names.count(node["name"]) > 1:  # several on one machine
                node["name"] += f" ({node['id'][:6]})"
        _visit(ray, [n for n in found if n["alive"]], request)
    finally:
        cloudpickle.unregister_pickle_by_value(probe)
        ray.shutdown()
    return {"error": None, "nodes": found}


def _visit(ray: Any, alive: Sequence[dict[str, Any]], request: Mapping[str, Any]) -> None:
    """Fill in each node's answers; all nodes work at the same time."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def on(node: Mapping[str, Any], function: Callable[..., Any], **resources: float) -> Any:
        pinned = NodeAffinitySchedulingStrategy(node_id=node["id"], soft=False)
        return ray.remote(num_cpus=0, max_retries=0, **resources)(function).options(scheduling_strategy=pinned)

    def now(node: Mapping[str, Any]) -> float:
        return float(ray.get(on(node, probe.now).remote(), timeout=NODE_S))

    pending = {
        on(n, probe.look).remote({**request, "own": f"{request['own']}-{n['id'][:8]}"}): (n, "facts") for n in alive
    }
    pending |= {on(n, probe.device, num_gpus=0.01).remote(): (n, "device") for n in alive if n["resources"].get("GPU")}
    end = time.monotonic() + NODE_S
    while pending and time.monotonic() < end:
        ready, _ = ray.wait(list(pending), timeout=max(0.1, end - time.monotonic()))
        for reference in ready:
            node, what = pending.pop(reference)
            try:
                node[what] = ray.get(reference)
            except Exception as error:  # a lost node, a task that cannot be unpacked, what probe raised
                node["error" if what == "facts" else "device_error"] = probe.brief(error)
    for reference, (node, what) in pending.items():
        ray.cancel(reference, force=True)
        if what == "facts":
            node["error"] = f"it ran no task within {NODE_S:.0f} s"
    for node in alive:
        if "facts" in node:
            node["clock"] = _clock(partial(now, node))


def _clock(ask: Callable[[], float]) -> dict[str, float]:
    """Measure how far another clock is ahead, in seconds, and the error bound: half of the shortest round trip."""
    best = {"ahead": 0.0, "within": float("inf")}
    for _ in range(4):  # the first one waits for a worker
        begin = time.time()
        there = ask()
        end = time.time()
        if (end - begin) / 2 < best["within"]:
            best = {"ahead": there - (begin + end) / 2, "within": (end - begin) / 2}
    return best


def findings(seen: Mapping[str, Any], here: Mapping[str, Any], storage: str, data: str | None) -> list[Finding]:
    """Turn the nodes' facts into findings.

    Args:
        seen: the result of ``nodes``.
        here: the result of ``probe.look`` on this machine.
        storage: the storage as given.
        data: the data as given, or ``None``.
    """
    topic = "Ray"
    if seen["error"]:
        text = f"no connection to the cluster ({seen['error']})"
        return [problem(topic, text, f"install the cluster's Ray and Python here, or submit from the head: {SUBMIT}")]
    alive = [n for n in seen["nodes"] if n["alive"]]
    found = [_sum(alive, len(seen["nodes"]) - len(alive))]
    each = [(n["name"], finding) for n in alive for finding in _node(n, here, storage, data)]
    found += merged(each)
    shaken = {name for name, finding in each if finding.level in ("warning", "problem")}
    fine = [n["name"] for n in alive if n["name"] not in shaken]
    if fine:
        reach = f"write and read {storage}" + (f", list {data}" if data else "")
        own = f"{len(fine)} of {len(alive)} nodes have this tfser and these packages"
        found.append(ok(topic, f"{own}, {reach}, and keep this machine's time"))
    return found


def _sum(alive: Sequence[Mapping[str, Any]], dead: int) -> Finding:
    cpus, gpus = (sum(n["resources"].get(what, 0.0) for n in alive) for what in ("CPU", "GPU"))
    text = f"{counted(len(alive), 'node')} with {_amount(cpus, 'CPU')} and {_amount(gpus, 'GPU')}"
    text += f"; {dead} more {'has' if dead == 1 else 'have'} ended" if dead else ""
    if not cpus:
        return note(
            "Ray", f"{text}; trials wait until the autoscaler, or `ray start --address=...`, adds a node with CPUs"
        )
    return ok("Ray", text)


def _amount(amount: float, noun: str) -> str:
    """Write an amount that need not be whole, with its noun."""
    return f"{amount:g} {noun}" if amount == 1 else f"{amount:g} {noun}s"


def _node(node: Mapping[str, Any], here: Mapping[str, Any], storage: str, data: str | None) -> list[Finding]:
    """List what is wrong with one node."""
    if "facts" not in node:
        return [problem("Ray", f"no answer ({node.get('error', 'none came')})", "ray status; ray list nodes")]
    facts, clock, found = node["facts"], node["clock"], _same_code(node["facts"], here)
    wrote = facts["storage"]
    if wrote["error"]:
        command = "mount it on every node under one path, or name an s3:// or gs:// URI with --storage"
        found.append(problem("storage", f"{storage} cannot be written ({wrote['error']})", command))
    elif wrote["sees_marker"] is False:
        text = f"{storage} is another folder there: a file that was written here is not in it"
        found.append(
            problem("storage", text, "name a folder that all nodes share, or an s3:// or gs:// URI, with --storage")
        )
    if data and facts["data"]["error"]:
        text = f"{data} cannot be read ({facts['data']['error']})"
        found.append(
            problem("data", text, "mount it on every node under one path, or name an s3:// or gs:// URI with --data")
        )
    elif data and here["data"]["digest"] not in (None, facts["data"]["digest"]):
        there, own = (counted(side["data"]["entries"], "entry", "entries") for side in (facts, here))
        text = f"{data} holds other files there ({there}; {own} here)"
        found.append(problem("data", text, "mount one folder on every node, or name an s3:// or gs:// URI with --data"))
    if abs(clock["ahead"]) > clock["within"] + places.CLOCK_S:
        text = f"its clock is {places.apart(clock['ahead'])} this machine's (within {clock['within']:.2f} s)"
        found.append(warning("clock", text, places.SET_CLOCK))
    found += machine.training(facts)
    found += [f for f in machine.disk({k: v for k, v in facts["disk"].items() if k != "storage"}) if f.level != "ok"]
    if node["resources"].get("GPU"):
        found += _gpus(node)
    return found


def _gpus(node: Mapping[str, Any]) -> list[Finding]:
    if "device_error" in node:
        return [problem("devices", f"its GPUs could not be tried ({node['device_error']})", "nvidia-smi on that node")]
    if "device" not in node:
        return [note("devices", "its GPUs are taken; they were not tried")]
    device = node["device"]
    if not device["gpus"] and not device["driver"]:
        return [
            problem(
                "devices",
                "Ray counts GPUs there and torch finds none; trials would train on CPUs",
                "nvidia-smi on that node",
            )
        ]
    return [f for f in machine.torch_findings(device) if f.level != "ok"]


def _same_code(facts: Mapping[str, Any], here: Mapping[str, Any]) -> list[Finding]:
    """Require the same code and packages, so that a trial gets the same numbers on every node."""
    own, there, found = here["tfser"], facts["tfser"], []
    install = f"pip install 'tfser=={own['version']}' there, or: {SUBMIT}"
    if there["version"] is None:
        found.append(problem("versions", "no tfser", install))
    elif (there["version"], there["code"]) != (own["version"], own["code"]):
        other = f"tfser {there['version']} (code {there['code']}) there"
        text = f"{other}, {own['version']} (code {own['code']}) here; workers refuse that"
        found.append(problem("versions", text, install))
    missing = [name for name in (*_NUMBERS, "soundfile") if facts["versions"].get(name) is None]
    if missing:
        found.append(problem("versions", f"missing: {', '.join(missing)}", "pip install 'tfser' there"))
    for name in _NUMBERS:
        one, other = here["versions"].get(name), facts["versions"].get(name)
        if other is not None and one != other:
            text = f"{name} {other} there, {one} here: scores can differ in their last digits"
            found.append(warning("versions", text, f"pip install '{name}=={one}' there"))
    if facts["python"].split(".")[:2] != here["python"].split(".")[:2]:
        text = f"Python {facts['python']} there, {here['python']} here"
        found.append(
            problem(
                "versions", text, f"make a new environment there with Python {'.'.join(here['python'].split('.')[:2])}"
            )
        )
    return found
