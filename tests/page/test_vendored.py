"""What is not ours in the page's front: each file is the one that its package has, and its licence is beside it."""

from __future__ import annotations

import hashlib
import json

from tests.conftest import CHECKOUT

VENDOR = CHECKOUT / "pytest_boobench" / "page" / "assets" / "vendor"
BEGINNINGS = {"MIT": "MIT License", "Apache-2.0": "Apache License"}


def test_vendored_files_are_those_of_the_manifest() -> None:
    told = json.loads((VENDOR / "manifest.json").read_text(encoding="utf-8"))["files"]
    hashes = {one["file"]: one["sha256"] for one in told}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert found == hashes


def test_each_vendored_file_has_its_licences() -> None:
    told = json.loads((VENDOR / "manifest.json").read_text(encoding="utf-8"))["files"]
    licences = {name: kind for one in told for name, kind in one["licences"].items()}
    assert all(one["licences"] for one in told)
    assert {path.name for path in VENDOR.glob("LICENSE*")} == set(licences)
    for name, kind in licences.items():
        assert BEGINNINGS[kind] in (VENDOR / name).read_text(encoding="utf-8"), name
