"""Processes that a model's own code forks from one that runs trials.

They end where that code gives control back: a copy of this process must neither commit the trial a second time nor
answer whoever runs it. Code that forks on purpose (``multiprocessing``, joblib) never comes back.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import cache


def end_copy_of(process: int) -> None:
    """End this process if it is a copy of another one.

    Args:
        process: the id of the one that began the work.
    """
    if os.getpid() != process:
        said = f"a copy of process {process}, forked by the model's code, came back from it and is ended"
        print(said, file=sys.stderr, flush=True)
        os._exit(1)


@cache
def end_by_sigterm() -> None:
    """Have SIGTERM end every process that this one forks; a pool sends it to its processes when it closes.

    A Ray worker's own handler, which they would inherit, speaks to Ray over the connection of the worker. The signal
    is held back during the fork, because Python loses one that comes before the new process has settled.
    """
    before = threading.local()

    def hold() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def settle() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=settle)
