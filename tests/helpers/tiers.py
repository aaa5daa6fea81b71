"""The order of the tests, and an end to starting them: a plugin of pytest.

The fast tier (tests not marked ``full``) comes before the rest. In both, the tests that start clusters come last.
"""

import time
from pathlib import Path

import pytest

clock = time.monotonic


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes",
        type=float,
        metavar="M",
        help="start no test later than M minutes after the first; name those that were not reached",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--minutes") is not None:
        config.pluginmanager.register(Deadline(config.getoption("--minutes")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.get_closest_marker("full") is not None, "integration" in Path(item.path).parts))


class Deadline:
    """Skips every test whose turn comes too late and names it: such a test has neither passed nor failed."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.begun = minutes, clock()
        self.missed: list[pytest.Item] = []

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.stats["not reached"] = self.missed  # counted in the last line

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if clock() - self.begun < 60 * self.minutes:
            return None
        self.missed.append(item)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.missed:
            terminalreporter.section(f"{len(self.missed)} not reached within {self.minutes:g} minutes")
            terminalreporter.write_line("\n".join(item.nodeid for item in self.missed))
