"""What the source says about the fields of a class: the docstring below each.

What lives here: finding it. Python keeps the docstrings of classes and forgets those of fields, so
the source of the module is read, once, and only when somebody asks. Where there is no source there
are no such docstrings, which is no error. What may not: what a class is for.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise


def docs_of_fields(declared: type) -> dict[str, str]:
    """The docstring of each field of a class that has one, inherited fields included."""
    found: dict[str, str] = {}
    for one in reversed(declared.__mro__):
        found |= _docs_in(one.__module__).get(one.__qualname__, {})
    return found


@cache
def _docs_in(module: str) -> dict[str, dict[str, str]]:
    """The docstrings of the fields of each class at the top of a module."""
    try:
        source = inspect.getsource(sys.modules[module])
    except (OSError, TypeError):  # it is not there, or the module is built in
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {one.name: _docs_in_class(one) for one in classes}


def _docs_in_class(declared: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(declared.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
