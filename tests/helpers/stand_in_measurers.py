"""What a process of the benchmark runs in a test instead of a measurement. It imports nothing, so that it starts fast.

The functions stand in a module of their own, because a spawned process has to import them.
"""

import os
import signal


def answers(connection, value):
    while True:
        connection.recv()
        connection.send(value)


def ends_after(connection, answers_left, how):
    """Answer so many times, then end: by a signal, a limit, an exit code, or an error."""
    while True:
        connection.recv()
        if not answers_left:
            break
        answers_left -= 1
        connection.send(1.0)
    if how == "error":
        raise RuntimeError("CUDA out of memory")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "busy":
        from tfser.benchmark.processes import give

        give(cpu_s=1)
        while True:
            pass
    os._exit(3)


def tells_its_peak(connection):
    from tfser.benchmark.processes import peak_mib

    connection.send(peak_mib())
