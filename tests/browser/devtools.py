"""Just enough of Chromium's DevTools protocol to look at a page: a tab, its scripts, its keys and its picture."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp


class Tab:
    """One tab; ``dialogs`` and ``errors`` are what its page has said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.session = ""
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._closing: asyncio.Task[dict[str, Any]] | None = None

    async def listen(self) -> None:
        """Take in what the browser says."""
        async for message in self._socket:
            said = message.json()
            if (answer := self._answers.pop(said.get("id", 0), None)) is not None:
                answer.set_result(said)
            elif said.get("method") == "Page.loadEventFired":
                self._loaded.set()
            elif said.get("method") == "Page.javascriptDialogOpening":
                self.dialogs.append(said["params"]["message"])
                # A page whose dialog stays open answers nothing, so that the test would say "timeout", not why.
                self._closing = asyncio.create_task(self.ask("Page.handleJavaScriptDialog", accept=True))
            elif said.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(said["params"]["exceptionDetails"]))
            elif said.get("method") == "Log.entryAdded":
                self.errors.append(said["params"]["entry"]["text"])

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(request | ({"sessionId": self.session} if self.session else {}))
        said = await answer
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    async def go(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self._loaded.clear()
        await self.ask("Page.navigate", url=url)
        await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """Evaluate an expression in the page, which may be a promise; return its value."""
        said = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the window's size."""
        scale = 2 if phone else 1
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    async def colours(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def press(self, key: str) -> None:
        """Press a key that has no character, such as Tab."""
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9)

    async def picture(self, path: Path) -> None:
        """Keep what is to be seen."""
        said = await self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(said["data"]))


@asynccontextmanager
async def opened(session: aiohttp.ClientSession, browser: str) -> AsyncIterator[Tab]:
    """Open a tab and close it in the end."""
    async with session.ws_connect(browser, max_msg_size=0) as socket:
        tab = Tab(socket)
        listening = asyncio.create_task(tab.listen())
        target = (await tab.ask("Target.createTarget", url="about:blank"))["targetId"]
        tab.session = (await tab.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await tab.ask(f"{domain}.enable")
        try:
            yield tab
        finally:
            tab.session = ""
            await tab.ask("Target.closeTarget", targetId=target)
            listening.cancel()
