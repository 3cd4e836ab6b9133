"""A browser without a window that looks at the dashboard, and breaks where the page does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
SCREENSHOTS = "RAYSTREAM_SCREENSHOTS"
"""Names a folder where pictures are kept for people to look at."""

_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE_MS = 30_000


class Looker:
    """One page of a browser. ``broke`` is what it complained of."""

    def __init__(self, page: Any, server: Any, folder: Path) -> None:
        self.page, self.server, self._folder = page, server, folder
        self.broke: list[str] = []
        page.on("pageerror", lambda error: self.broke.append(f"pageerror: {error}"))
        page.on("console", self._heard)
        page.set_default_timeout(_PATIENCE_MS)

    def _heard(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.broke.append(f"console {said.type}: {said.text}")

    def open(self, route: str = "") -> None:
        """Open the dashboard as its command prints it, and go to a job's section."""
        self.page.goto(f"{self.server.url}/#token={self.server.token}")
        self.page.wait_for_selector("#jobs")
        if route:
            self.go(route)

    def go(self, route: str) -> None:
        self.page.evaluate("where => { location.hash = where }", f"#/job/{route}")

    def section(self, name: str) -> None:
        self.page.click(f"nav.sections a:has-text('{name}')")
        self.page.wait_for_selector(f"section#{name.lower()}")

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    def shot(self, name: str) -> None:
        """Keep a picture, and hold that nothing broke until now."""
        kept = os.environ.get(SCREENSHOTS)
        for folder in [self._folder, *([Path(kept)] if kept else [])]:
            folder.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=folder / f"{name}.png")
        assert not self.broke, self.broke

    def ask(self, path: str) -> Any:
        """Ask the API what the page asks it."""
        headers = {"Authorization": f"Bearer {self.server.token}"}
        answer = self.page.request.get(f"{self.server.url}/api/v1{path}", headers=headers)
        assert answer.ok, answer.text()
        return answer.json()


@contextmanager
def a_browser() -> Iterator[Any]:
    """Start a browser; a test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=_ARGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def looking(browser: Any, server: Any, folder: Path, **more: Any) -> Iterator[Looker]:
    """Open a page of a browser that nobody has used yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, **more)
    try:
        yield Looker(context.new_page(), server, folder)
    finally:
        context.close()
