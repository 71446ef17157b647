"""The two clients are one client with two faces."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import jobkeep
from jobkeep import AsyncClient, Client, StateBackend


def public(kind: type) -> dict[str, object]:
    names = {name for base in kind.__mro__ for name in vars(base) if not name.startswith("_")}
    return {name: inspect.getattr_static(kind, name) for name in names}


def signature(method: object) -> inspect.Signature:
    """How a method is called, and what it gives: an iterator of either kind is one."""
    assert callable(method)
    found = inspect.signature(method)
    gives = str(found.return_annotation).removeprefix("Async")
    return found.replace(return_annotation=gives)


def test_both_have_the_same_public_names() -> None:
    assert set(public(AsyncClient)) == set(public(Client))


@pytest.mark.parametrize("name", ["__init__", *sorted(public(AsyncClient))])
def test_both_have_the_same_signature_and_docstring(name: str) -> None:
    asynchronous = inspect.getattr_static(AsyncClient, name)
    blocking = inspect.getattr_static(Client, name)

    assert inspect.getdoc(getattr(AsyncClient, name)) == inspect.getdoc(getattr(Client, name))
    if not isinstance(asynchronous, property):
        assert signature(asynchronous) == signature(blocking)
        assert inspect.iscoroutinefunction(asynchronous) is (name not in {"__init__", "watch"})
        assert not inspect.iscoroutinefunction(blocking)


@pytest.mark.parametrize("name", sorted(public(StateBackend)))
def test_every_method_of_the_backend_keeps_its_signature(name: str) -> None:
    declared = inspect.getattr_static(StateBackend, name)

    if not isinstance(declared, property):
        assert list(signature(declared).parameters.values()) == list(
            signature(inspect.getattr_static(AsyncClient, name)).parameters.values()
        )


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(jobkeep, name) is not None for name in jobkeep.__all__)
    assert set(jobkeep.__all__) <= set(dir(jobkeep))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = jobkeep.Nonsense


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import jobkeep", {"asyncio", "socket", "msgspec"}),
        ("from jobkeep import Client", {"asyncio", "pydantic", "click", "rich", "sqlite3"}),
        ("from jobkeep import AsyncClient", {"pydantic", "click", "rich", "sqlite3", "uvloop"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, unwanted: set[str]) -> None:
    script = f"import sys; {statement}; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not unwanted & set(loaded)
