"""The wheel has all that pages are made of, and what is vendored has its version and its licence beside it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[3]
CONSOLE = ROOT / "admin" / "console"
VENDOR = CONSOLE / "assets" / "vendor"


def test_the_wheel_has_every_template_and_every_file(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = set(zipfile.ZipFile(built).namelist())
    needed = {
        str(path.relative_to(ROOT))
        for folder in ("assets", "templates")
        for path in (CONSOLE / folder).rglob("*")
        if path.is_file()
    }
    assert len(needed) > 20
    assert needed <= packed


def test_what_is_vendored_has_its_version_and_its_licence() -> None:
    scripts = [path.name for path in VENDOR.iterdir() if path.suffix in (".js", ".css")]
    assert scripts
    for name in scripts:
        found = re.fullmatch(r"(?P<library>[a-zA-Z-]+?)(?:-ext)?-\d+\.\d+\.\d+(?:\.min|\.iife\.min)?\.(?:js|css)", name)
        assert found, f"{name} does not say its version"
        assert (VENDOR / f"{found['library']}.LICENSE").stat().st_size > 100


def test_no_file_fetches_anything_from_elsewhere() -> None:
    for path in (*CONSOLE.glob("assets/*"), *CONSOLE.glob("templates/*")):
        if path.is_file():
            others = set(re.findall(r"https?://[^\s\"')]+", path.read_text())) - {"http://www.w3.org/2000/svg"}
            assert others == set(), path.name
            assert "@import" not in path.read_text()
            assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", path.read_text()), f"{path.name} has code in it"
