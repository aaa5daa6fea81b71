"""Ports for servers that tests start."""

import random
import socket
from pathlib import Path

_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, and that this process has not given out before.

    It is below the ports that Linux gives to outgoing connections and to sockets that ask for any port, because another
    process could take one of those before the server starts.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    # 10002 to 19999 are Ray's workers', 20000 to 27999 those of a Slurm job, from 23000 on those of Ray's clients.
    candidates = [port for port in range(28000, lowest) if port not in _given] or [0]
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            _given.add(found)
            return found
    raise OSError("no port is free")
