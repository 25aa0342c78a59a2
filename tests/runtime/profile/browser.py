"""Headless Chromium, driven through chromedriver's HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def missing() -> str | None:
    """Why no browser can be driven here, with the way out; None if one can."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install chromium chromium-driver"
    return None


class Browser:
    """One browser with an empty profile of its own.

    Args:
        dark: whether it prefers dark pages.
        size: of the window, pixels.
    """

    def __init__(self, dark: bool = False, size: tuple[int, int] = (1000, 1200)) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="vtp-chromium-"))
        self._driver = subprocess.Popen(
            [str(shutil.which("chromedriver")), "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._session = ""
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            flags = [
                *FLAGS,
                f"--user-data-dir={self._profile}",
                f"--window-size={size[0]},{size[1]}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            ]
            wanted = {
                "goog:chromeOptions": {"binary": shutil.which("chromium"), "args": flags},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            made = self._call("/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if "started successfully on port" in line:
                return int(line.rstrip(".\n").rpartition(" ")[2])
        raise AssertionError("chromedriver did not start")

    def _call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + self._session + path, data)
        # No proxy: it is this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        """Load a file."""
        self._call("/url", {"url": page.absolute().as_uri()})

    def ask(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        return self._call("/execute/sync", {"script": f"return {script}", "args": []})

    def console(self) -> list[str]:
        """What the page wrote to the console since the last call."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses that pages from files asked for since the last call; the browser's own first
        page is none of them."""
        entries = self._call("/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
            and message["params"]["documentURL"].startswith("file://")
        ]

    def screenshot(self) -> bytes:
        """What the window shows, PNG."""
        return base64.b64decode(self._call("/screenshot"))

    def close(self) -> None:
        """End the browser and forget its profile."""
        if self._session:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            end = urllib.request.Request(self._base + self._session, method="DELETE")
            opener.open(end, timeout=60).close()
        self._driver.terminate()
        self._driver.communicate(timeout=30)
        shutil.rmtree(self._profile, ignore_errors=True)
