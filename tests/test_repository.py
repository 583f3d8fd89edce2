"""What holds for the repository as a whole: lazy imports, reading order, names, quiet notebooks."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tokenize

import pytest
from shared import ROOT, python, tool

import dgdd_nb

books = tool("books")
NBS, LIB = ROOT / "nbs", ROOT / "dgdd_nb"
MODULES = sorted(path.stem for path in LIB.glob("*.py") if not path.stem.startswith("_"))
TREES = {name: ast.parse((LIB / f"{name}.py").read_text(encoding="utf-8")) for name in MODULES}
LAZY = {"matplotlib", "sklearn", "pandas", "scipy", "ipywidgets", "anywidget", "typer", "umap"}
LAZY |= {"joblib", "ray", "dask", "timm", "tabulate", "datasets", "huggingface_hub", "pyarrow"}
by_module = pytest.mark.parametrize("module", MODULES)
by_notebook = pytest.mark.parametrize("path", books.notebooks(), ids=lambda path: path.stem)


NUMBERED = [path for path in books.notebooks() if path.name[:2].isdigit()]
NUMBER = {books.module_of(path): int(path.name[:2]) for path in NUMBERED}


def imported(source: str) -> tuple[set[str], set[str]]:
    """The modules of the package that a piece of code imports at any depth, and the other packages."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(re.sub(r"^\s*[!%].*$", "", source, flags=re.M))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = f"dgdd_nb.{node.module or ''}" if node.level else node.module
            deep = "." in module.rstrip(".")
            names = [module] if deep else [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package != "dgdd_nb":
                others.add(package)
            elif module.partition(".")[0] in MODULES:
                own.add(module.partition(".")[0])
    return own, others


def loaded(module: str) -> set[str]:
    """The packages in sys.modules after importing modules in a fresh Python."""
    code = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(python(code).split())


def exported(module: str) -> list[tuple[str, ast.AST]]:
    """Functions and classes in the module's `__all__`, and the public methods of those classes."""
    public = importlib.import_module(f"dgdd_nb.{module}").__all__
    found = []
    for node in TREES[module].body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in public:
            found.append((node.name, node))
            inside = node.body if isinstance(node, ast.ClassDef) else []
            found += [
                (f"{node.name}.{sub.name}", sub)
                for sub in inside
                if isinstance(sub, ast.FunctionDef) and not sub.name.startswith("_")
            ]
    return found


def test_imports_are_lazy():
    assert not loaded("dgdd_nb") & (LAZY | {"torch", "pydantic"})
    assert not loaded("dgdd_nb.cli") & (LAZY - {"typer"} | {"torch", "torchvision"})
    assert not loaded("dgdd_nb.study, dgdd_nb.explore") & LAZY


def test_a_name_of_the_package_is_the_thing_and_not_the_module():
    for name in dgdd_nb.__all__:
        assert not inspect.ismodule(getattr(dgdd_nb, name)), name
    assert set(dgdd_nb.__all__) <= set(dir(dgdd_nb))
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        dgdd_nb.distil  # noqa: B018


@by_module
def test_module(module):
    """Imports alone, needs no development tool, and its public names are things of its own."""
    found = importlib.import_module(f"dgdd_nb.{module}")
    for name in found.__all__:
        assert not inspect.ismodule(getattr(found, name)), f"{module}.{name} is a module"
    source = (LIB / f"{module}.py").read_text(encoding="utf-8")
    assert not imported(source)[1] & {"nbdev", "fastcore", "execnb", "IPython", "pickle"}


@by_module
def test_public_names_are_documented(module):
    """A docstring each; types and a comment for each parameter of a public function."""
    with tokenize.open(LIB / f"{module}.py") as file:
        tokens = tokenize.generate_tokens(file.readline)
        noted = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    wrong = []
    for name, node in exported(module):
        wrong += [] if ast.get_docstring(node) else [f"{name} has no docstring"]
        if not isinstance(node, ast.FunctionDef):
            continue
        wrong += [f"{name} does not say what it returns"] if node.returns is None else []
        for arg in node.args.posonlyargs + node.args.args + node.args.kwonlyargs:
            if arg.annotation is None and arg.arg not in ("self", "cls"):
                wrong.append(f"{name}: {arg.arg} has no type")
            if "." not in name and arg.end_lineno not in noted:
                wrong.append(f"{name}: no comment beside {arg.arg}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_notebook_imports_only_lower_numbers(path):
    own, number = books.module_of(path), int(path.name[:2])
    assert own == path.stem[3:]
    used = set().union(*(imported(source)[0] for source in books.cells(path)))
    late = {name for name in used - {own} if NUMBER[name] >= number}
    assert not late, f"{path.name} imports {', '.join(sorted(late))}"


def test_each_module_has_its_notebook():
    assert sorted(NUMBER) == MODULES and len(set(NUMBER.values())) == len(NUMBER) == len(NUMBERED)
    assert (NBS / "index.ipynb").exists() and (NBS / "notation.ipynb").exists()


@by_notebook
def test_notebook_is_in_order(path):
    """What tools/refresh.py asks for, a title with a quoted line, and cells that can be told apart."""
    pytest.importorskip("nbdev")
    refresh = tool("refresh")
    assert refresh.unclean(path) == []
    cells = books.read(path)["cells"]
    ids = [cell["id"] for cell in cells]
    assert len(ids) == len(set(ids)), "two cells share an id"
    assert "colab" not in ids, "the set-up for Colab stands in nbs/index.ipynb alone"
    for source in (books.joined(cell["source"]) for cell in cells):
        assert not refresh.MACHINE_PATH.search(source)
    first = books.cells(path, "markdown")[0]
    assert first.startswith("# ") and re.search(r"^> \S", first, flags=re.M), "title, quoted line"


def test_readme_is_short_and_has_the_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 140
    for head in ("Run it", "Test it"):
        block = rf"^## {head}\s*$[^#]*?^```bash\n.+?^```"
        assert re.search(block, text, flags=re.M | re.S), f"## {head}, with a ```bash block"
    for path in NUMBERED:
        assert f"(nbs/{path.name})" in text, f"{path.name} is not on the map"


def test_version_stands_in_one_place():
    version = books.settings()["version"]
    assert version == dgdd_nb.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
