"""Measure one Python file: what is in it, and how well it compresses. One JSON line comes out.

The work that the demo has `jobkeep run` do for each file; any command would do.
"""

from __future__ import annotations

import ast
import hashlib
import json
import lzma
import sys
from collections import Counter
from pathlib import Path

BRANCHES = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.BoolOp, ast.IfExp, ast.comprehension)


def measure(path: Path) -> dict[str, object]:
    """The figures of one file. Raises SyntaxError when it is no Python."""
    source = path.read_bytes()
    nodes = list(ast.walk(ast.parse(source, path)))
    counts = Counter(type(node).__name__ for node in nodes)
    return {
        "file": path.name,
        "bytes": len(source),
        "compressed_bytes": len(lzma.compress(source, preset=6)),
        "sha256": hashlib.sha256(source).hexdigest(),
        "functions": counts["FunctionDef"] + counts["AsyncFunctionDef"],
        "classes": counts["ClassDef"],
        "branches": sum(isinstance(node, BRANCHES) for node in nodes),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
