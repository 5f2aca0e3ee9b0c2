"""A real browser, driven over its debugging pipe with nothing but the standard library."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Space": (" ", 32, " "),
    "Escape": ("Escape", 27, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
}
"""Name -> key, code on Windows (which Chromium asks for everywhere), text."""


class Page:
    """One page of a headless Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._numbers, self._buffer, self._session = itertools.count(1), b"", ""
        self.complaints: list[str] = []
        self.events: list[str] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for name in ("Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"):
            self.do(name)

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if "method" in answer:
                self.events.append(answer["method"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(answer["params"])[:400])
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, expression: str) -> Any:
        """A JavaScript expression's value, awaited."""
        found = self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:400])
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 30) -> Any:
        """The condition's value once it holds."""
        deadline = time.monotonic() + seconds
        while not (value := self._holds(condition)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never: {condition}; {self.complaints}")
            self._holds("new Promise(done => requestAnimationFrame(done))")
        return value

    def _holds(self, condition: str) -> Any:
        """The condition's value; None while the page is being replaced by another."""
        try:
            return self.run(condition)
        except RuntimeError as error:
            if "navigated" in str(error):
                return None
            raise

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into a file input."""
        root = self.do("DOM.getDocument")["root"]["nodeId"]
        node = self.do("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.do("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def press(self, *keys: str) -> None:
        """Press keys one after the other: `Tab`, `Enter`, `Space`, `Escape`, arrows, letters."""
        for name in keys:
            key, code, text = _KEYS.get(name, (name, ord(name[0].upper()), name))
            details = {"key": key, "code": name, "windowsVirtualKeyCode": code}
            kind = "keyDown" if text else "rawKeyDown"
            self.do("Input.dispatchKeyEvent", type=kind, text=text, **details)
            self.do("Input.dispatchKeyEvent", type="keyUp", **details)

    def tab_to(self, selector: str, most: int = 200) -> None:
        """Press Tab until the focus is on the element of a selector."""
        for _ in range(most):
            if self.run(f"document.activeElement.matches({selector!r})"):
                return
            self.press("Tab")
        raise AssertionError(f"Tab does not lead to {selector}")

    def drop_file(self, selector: str, path: Path) -> None:
        """Drag a file from outside over an element, and let it go there."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def paste_image(self, path: Path) -> None:
        """Copy a PNG file to the clipboard, and press Ctrl+V."""
        rights = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self.do("Browser.grantPermissions", permissions=rights)
        content = base64.b64encode(path.read_bytes()).decode()
        self.run(
            f"(bytes => navigator.clipboard.write([new ClipboardItem({{ 'image/png':"
            f" new Blob([bytes], {{ type: 'image/png' }}) }})]))"
            f"(Uint8Array.from(atob({content!r}), (letter) => letter.charCodeAt(0)))"
        )
        control_v = {"key": "v", "code": "KeyV", "windowsVirtualKeyCode": 86, "modifiers": 2}
        self.do("Input.dispatchKeyEvent", type="keyDown", commands=["paste"], **control_v)
        self.do("Input.dispatchKeyEvent", type="keyUp", **control_v)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element in the window's pixels."""
        left, top, width, height = self.run(
            f"(r => [r.left, r.top, r.width, r.height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        return left + width / 2, top + height / 2

    def emulate_phone(self, width: int = 360, height: int = 740) -> None:
        """A small screen that is touched."""
        self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=True,
        )
        self.do("Emulation.setTouchEmulationEnabled", enabled=True)

    def emulate_scheme(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.do("Emulation.setEmulatedMedia", features=[feature])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move and release the mouse, in the window's pixels."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        steps = [("mousePressed", start, 1), ("mouseMoved", middle, 1), ("mouseMoved", end, 1)]
        for kind, (x, y), buttons in [*steps, ("mouseReleased", end, 0)]:
            details: dict[str, Any] = {"type": kind, "x": x, "y": y, "buttons": buttons}
            self.do("Input.dispatchMouseEvent", button="left", clickCount=1, **details)

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        found = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 16)
            if not part:
                raise EOFError("the browser is gone")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def browser_page(program: str, folder: Path, size: str = "1200,900") -> Iterator[Page]:
    """A page of a browser with a fresh profile in ``folder``; ended with the block."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}",
        f"--window-size={size}",
        *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    ]
    # The browser reads commands from file 3 and writes answers to file 4.
    start = f'exec "$@" 3<&{to_read} 4>&{from_write}'
    child = subprocess.Popen(
        ["bash", "-c", start, "bash", program, *options],
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Page(to_write, from_read)
    finally:
        child.kill()
        child.wait()
        os.close(to_write)
        os.close(from_read)
