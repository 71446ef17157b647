"""docs/security.md lists every limit with its default, every role, and settings that exist."""

from __future__ import annotations

import tomllib
from typing import Any

from jobkeepd.access import Access
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.settings import Settings
from tests.docs.pages import ROOT, read, table

PAGE = ROOT / "docs" / "security.md"


def test_limits() -> None:
    listed = {row[0].strip("`"): float(row[1].replace(",", "")) for row in table(PAGE, "setting")}
    names = DEFAULT_LIMITS.__struct_fields__

    assert listed == {name: getattr(DEFAULT_LIMITS, name) for name in names}


def test_roles() -> None:
    assert [row[0] for row in table(PAGE, "role")] == ["read", "write", "admin"]


def test_example_has_keys_that_exist() -> None:
    (block,) = read(PAGE).split("```toml\n")[1:]
    example: dict[str, Any] = tomllib.loads(block.split("```")[0])

    assert set(example) <= set(Settings.__struct_fields__)
    assert Access(others=example["others"]).role_of(4_242) == "read"
