"""An installed jobkeep, and machines to try it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import Machine, why_not

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are of one kind, and need the same."""
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    reason = why_not() if here else None
    for item in here:
        item.add_marker(pytest.mark.system)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root into which `make install PREFIX=/usr` has installed jobkeep."""
    root = tmp_path_factory.mktemp("root")
    environment = {
        **os.environ,
        "PREFIX": "/usr",
        "DESTDIR": str(root),
        "INSTALL_PYTHON": "/usr/bin/python3",
        "PIP": str(Path(sys.prefix) / "bin" / "pip"),
    }
    environment.pop("PYTHONPATH", None)
    subprocess.run([ROOT / "install" / "install.sh", "install"], env=environment, check=True)
    return root


@pytest.fixture
def machine(installed: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine that has just been booted, with users alice, who is in the group jobkeep, and bob,
    who is not."""
    one = Machine(installed / "usr", tmp_path)
    try:
        one.boot()
        one.run("systemd-sysusers", "--inline", "u alice -", "u bob -", "m alice jobkeep")
        one.run("systemctl", "start", "jobkeep.socket")
        yield one
    finally:
        one.power_off()
