"""Makes the pictures of docs/admin.md from a running `./run demo`: python docs/screenshots.py URL PASSWORD."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent / "admin"
# The picture's name, the page, light or dark, and its width.
PICTURES = (
    ("overview", "/", "light", 1280), ("sessions", "/sessions", "light", 1280),
    ("user", "/users/postgres/edit?name=app", "light", 1280),
)


def main(url: str, password: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, path, scheme, width in PICTURES:
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, base_url=url)
            page.goto("/login")
            page.get_by_label("Name").fill("admin")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
            page.locator("nav").wait_for()
            page.goto(path)
            time.sleep(2)
            page.screenshot(path=HERE / f"{name}.png", full_page=path == "/")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
