"""Put beside each other, as they lie in the checkout, the pages of the site and every file that one of them names.

``python stage.py DIRECTORY``: DIRECTORY is made anew. So links between pages are the same on the site, in a checkout
and on a forge. A link to a directory leads to its README there; where it has none, the words are left, and no link.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FIRST: Final = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "bench/RESULTS.md", "docs/**/*.md")
STYLE: Final = ROOT / "docs/site/extra.css"
LINK: Final = re.compile(r"\[([^\]\[]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def files() -> set[Path]:
    """The pages, and the files of the checkout that they name."""
    pages = {page for pattern in FIRST for page in ROOT.glob(pattern)}
    named = {(page.parent / target).resolve() for page in pages
             for _, target, _ in LINK.findall(page.read_text())}
    return pages | {path for path in named if path.is_file() and path.is_relative_to(ROOT)}


def text_of(page: Path) -> str:
    """As it is on the site, where directories are not shown."""
    def link(match: re.Match[str]) -> str:
        words, target, _ = match.groups()
        directory = page.parent / target
        if not directory.is_dir():
            return match[0]
        return f"[{words}]({target.rstrip('/')}/README.md)" if (directory / "README.md").exists() else words

    return LINK.sub(link, page.read_text())


def stage(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    for path in sorted(files() | {STYLE}):
        target = directory / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text(text_of(path))
        else:
            shutil.copyfile(path, target)


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
