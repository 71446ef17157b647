"""What `make install` puts where, and that `make uninstall` takes all of it away again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.conftest import ROOT

AROUND = {
    "bin/jobkeep",
    "bin/jobkeepd",
    "lib/systemd/system/jobkeep.service",
    "lib/systemd/system/jobkeep.socket",
    "lib/systemd/user/jobkeep.service",
    "lib/systemd/user/jobkeep.socket",
    "lib/sysusers.d/jobkeep.conf",
    "lib/tmpfiles.d/jobkeep.conf",
    "share/bash-completion/completions/jobkeep",
    "share/fish/vendor_completions.d/jobkeep.fish",
    "share/man/man1/jobkeep.1",
    "share/man/man8/jobkeepd.8",
    "share/doc/jobkeep/examples/jobkeepd.toml",
    "share/zsh/vendor-completions/_jobkeep",
}


def files_below(directory: Path) -> set[str]:
    return {
        str(Path(above, name).relative_to(directory))
        for above, _, names in os.walk(directory)
        for name in names
    }


def test_everything_is_where_debian_expects_it(installed: Path) -> None:
    usr = installed / "usr"
    found = files_below(usr)

    assert {one for one in found if not one.startswith("lib/jobkeep/")} == AROUND
    for path in AROUND - {"bin/jobkeep", "bin/jobkeepd"}:
        assert (usr / path).stat().st_size > 0
        assert "@BINDIR@" not in (usr / path).read_text()


def test_nothing_names_the_place_where_it_was_put_together(installed: Path) -> None:
    name = str(installed).encode()
    naming = [one for one in files_below(installed) if name in content(installed / one)]

    assert naming == []


def content(path: Path) -> bytes:
    """What is in a file that is no link to another."""
    return b"" if path.is_symlink() else path.read_bytes()


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")])
def test_completion_is_what_the_shell_understands(installed: Path, shell: str, check: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} to read its completion")
    (script,) = [one for one in AROUND if f"/{shell}" in one]

    subprocess.run([shell, check, installed / "usr" / script], check=True)


def test_uninstall_leaves_nothing(installed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    environment = {**os.environ, "PREFIX": "/usr", "DESTDIR": str(root)}

    subprocess.run([ROOT / "install" / "install.sh", "uninstall"], env=environment, check=True)

    assert files_below(root) == set()
