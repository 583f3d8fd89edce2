"""How large the house is: lines and public names of each module, functions with one caller, import time.

python tools/measure.py
"""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def names_used(tree: ast.AST) -> Counter:
    """How often each name is read, called or imported, whatever it belongs to."""
    used = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
    used.update(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute))
    return used


def public(tree: ast.Module) -> list[str]:
    """The names in __all__."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [e.value for e in node.value.elts] if isinstance(node.value, ast.List) else []
    return []


def main() -> None:
    """Print a table."""
    files = sorted(p for p in (ROOT / "dgdd_nb").glob("*.py") if p.stem[0] != "_")
    trees = {p.stem: ast.parse(p.read_text(encoding="utf-8")) for p in files}
    used = sum((names_used(tree) for tree in trees.values()), Counter())
    total = Counter()
    print(f"{'module':18}{'lines':>7}{'public':>8}{'functions':>11}{'one caller':>12}")
    for path in files:
        tree = trees[path.stem]
        functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
        once = [f.name for f in functions if used[f.name] == 1]
        row = Counter(
            lines=path.read_text(encoding="utf-8").count("\n"),
            public=len(public(tree)),
            functions=len(functions),
            once=len(once),
        )
        total += row
        print(
            f"{path.stem:18}{row['lines']:7}{row['public']:8}{row['functions']:11}{row['once']:12}"
        )
    extra = sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / "dgdd_nb").glob("*.js"))
    print(
        f"{'all':18}{total['lines']:7}{total['public']:8}{total['functions']:11}{total['once']:12}"
        f"   and {extra} lines of JavaScript"
    )
    code = (
        "import time; t = time.time(); import dgdd_nb; print(f'{1000 * (time.time() - t):.1f} ms')"
    )
    print(
        "import dgdd_nb:", subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    )


if __name__ == "__main__":
    main()
