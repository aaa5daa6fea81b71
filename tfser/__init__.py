"""tfser: leave-one-speaker-out speech emotion recognition on a cluster.

In a notebook: ``load_database``, ``describe`` and ``run`` a sweep, read its ``results``.

Importing the package loads nothing else, so that commands start fast and a machine without Ray or
MLflow can still train.
"""

import os
from typing import TYPE_CHECKING

__all__ = ["__version__", "describe", "load_database", "results", "run"]
__version__ = "0.1.0"

if TYPE_CHECKING:
    from tfser.interface import describe, load_database, results, run
else:  # a type checker would take any name for one of these

    def __getattr__(name: str) -> object:
        """Load the functions for notebooks when the first of them is asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from tfser import interface

        return getattr(interface, name)


def __dir__() -> list[str]:
    """List those functions too, so that a notebook completes their names."""
    return sorted({*globals(), *__all__})


def name_the_account() -> None:
    """Give an account that the system does not know (``docker run --user``, Kubernetes) a name and a home.

    torch and MLflow ask the environment for the name, and fail where there is none; others write into the home, which
    Docker says is ``/``.
    """
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except ImportError:  # no Unix
        return
    except KeyError:
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["USER"] = f"uid{os.getuid()}"
        if os.environ.get("HOME") in (None, "", "/") and not (os.environ.get("HOME") and os.access("/", os.W_OK)):
            os.environ["HOME"] = _own_home()


def _own_home() -> str:
    """Make a temporary folder of this account alone, for this process and those that it starts."""
    import tempfile

    home = os.path.join(tempfile.gettempdir(), f"tfser-home-{os.getuid()}")
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        if os.stat(home).st_uid == os.getuid():
            return home
    except OSError:  # the temporary folder is full, or a file has that name
        pass
    return "/nonexistent"  # as for nobody: who would write there finds that it cannot


name_the_account()
