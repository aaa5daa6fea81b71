"""A headless Chromium that a test drives through its DevTools protocol, with aiohttp, which comes with Ray."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
"""Chromium of this machine; ``None`` for none."""

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

PATIENCE_S = 120.0
"""How long a page may take to show what is waited for: a busy machine draws MLflow's in tens of seconds."""


class Page:
    """One page of a browser.

    Args:
        loop: runs the requests.
        socket: of the page's DevTools.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._number = loop, socket, 0

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol, and return its result."""
        return self._loop.run_until_complete(self._asked(method, parameters))

    async def _asked(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = json.loads((await self._socket.receive(PATIENCE_S)).data)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])

    def go(self, url: str) -> None:
        """Open an address; a part after ``#`` that differs alone also opens the page anew."""
        self.ask("Page.navigate", url="about:blank")
        self.until("location.href == 'about:blank'")
        self.ask("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression is in the page; ``None`` where it raises, as while a page loads."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return None if "exceptionDetails" in answer else answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and return it."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.value(expression)):
            assert time.monotonic() < end, f"waited in vain for {expression}; the page says {self.text!r}"
            time.sleep(0.1)
        return value

    def until_it_says(self, *words: str) -> str:
        """Wait until the page shows every word, and return its whole text."""
        self.until(f"{json.dumps(words)}.every(word => document.body.innerText.includes(word))")
        return self.text

    def click(self, selector: str) -> None:
        """Wait for the first element that matches a CSS selector, and click it."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    @property
    def text(self) -> str:
        """Text that the page shows."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def picture(self, path: Path) -> None:
        """Write a PNG of what the window shows."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def opened(width: int = 1400, height: int = 1000) -> Iterator[Page]:
    """Start a browser with an empty profile and one page; it ends with the block.

    Args:
        width: of its window, CSS pixels.
        height: likewise.
    """
    assert BROWSER is not None
    profile = Path(tempfile.mkdtemp(prefix="browser"))
    flags = (*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", f"--window-size={width},{height}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DBUS")}
    browser = subprocess.Popen(
        [BROWSER, *flags, "about:blank"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    loop = asyncio.new_event_loop()
    try:
        port, end = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_S
        while not port.exists() or not port.read_text().strip():
            assert browser.poll() is None, "the browser ended"
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.05)
        session = loop.run_until_complete(_session())
        try:
            socket = loop.run_until_complete(_page(session, int(port.read_text().split()[0])))
            page = Page(loop, socket)
            page.ask("Page.enable")
            page.ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            yield page
            loop.run_until_complete(socket.close())
        finally:
            loop.run_until_complete(session.close())
    finally:
        loop.close()
        browser.kill()
        browser.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _page(session: aiohttp.ClientSession, port: int) -> aiohttp.ClientWebSocketResponse:
    """Connect to the first page of the browser at a port."""
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        (page,) = [target for target in await answer.json() if target["type"] == "page"][:1]
    return await session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
