"""What holds for the repository as a whole: lazy imports, reading order, documentation, quiet notebooks."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tokenize
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "dgdd_nb"
NOTEBOOKS = [
    path
    for path in sorted(NBS.rglob("*.ipynb"))
    if not any(part.startswith((".", "_")) for part in path.relative_to(NBS).parts)
]
MODULES = sorted(path.stem for path in LIB.glob("*.py") if not path.stem.startswith("_"))
OPTIONAL = {
    "matplotlib",
    "sklearn",
    "ipywidgets",
    "anywidget",
    "typer",
    "umap",
    "joblib",
    "ray",
    "dask",
}
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|work|Users|mnt|var)/[\w./-]+")


def cells(path: Path) -> list[dict]:
    """The cells of a notebook, sources joined."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    return [{**cell, "source": "".join(cell["source"])} for cell in nb["cells"]]


def module_of(path: Path) -> str | None:
    """The module a notebook exports, from its default_exp directive."""
    for cell in cells(path):
        found = re.search(r"^#\|\s*default_exp\s+(\S+)", cell["source"], flags=re.M)
        if cell["cell_type"] == "code" and found:
            return found.group(1)
    return None


NUMBER = {
    module_of(path): int(path.name[:2])
    for path in NOTEBOOKS
    if path.name[:2].isdigit() and module_of(path)
}


def imported(source: str) -> set[str]:
    """The dgdd_nb modules that a piece of code imports, at any depth."""
    kept = "\n".join(
        "" if line.lstrip().startswith(("!", "%")) else line for line in source.splitlines()
    )
    names = set()
    for node in ast.walk(ast.parse(kept)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dgdd_nb":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("dgdd_nb.")
            }
    return names


def heavy(module: str, among: set[str]) -> list[str]:
    """Which of these packages stand in sys.modules after importing one module in a fresh Python."""
    code = (
        f"import sys, dgdd_nb.{module}\nprint(*sorted(set({sorted(among)!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def defined(module: str) -> list[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of those classes."""
    tree = ast.parse((LIB / f"{module}.py").read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            found.append((node.name, node))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += [
                (f"{node.name}.{sub.name}", sub)
                for sub in node.body
                if isinstance(sub, ast.FunctionDef) and not sub.name.startswith("_")
            ]
    return found


def test_distill_leaves_optional_packages_alone():
    if not (LIB / "distill.py").exists():
        pytest.skip("dgdd_nb.distill does not exist yet")
    assert heavy("distill", OPTIONAL) == []


def test_cli_starts_lazy():
    if not (LIB / "cli.py").exists():
        pytest.skip("dgdd_nb.cli does not exist yet")
    assert heavy("cli", OPTIONAL - {"typer"} | {"torch", "torchvision"}) == []


def test_package_needs_no_development_tool():
    for module in MODULES:
        source = (LIB / f"{module}.py").read_text(encoding="utf-8")
        names = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        names |= {
            (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ImportFrom)
        }
        assert not names & {"nbdev", "fastcore", "execnb", "IPython", "pickle"}, module


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_alone(module):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    assert importlib.import_module(f"dgdd_nb.{module}").__all__


@pytest.mark.parametrize("module", MODULES)
def test_exported_names_are_documented(module):
    wrong = []
    for name, node in defined(module):
        if not ast.get_docstring(node):
            wrong.append(f"{name} has no docstring")
        if isinstance(node, ast.FunctionDef):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            wrong += [
                f"{name}: {arg.arg} has no type"
                for arg in arguments
                if arg.annotation is None and arg.arg not in ("self", "cls")
            ]
            if node.returns is None:
                wrong.append(f"{name} does not say what it returns")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_exported_functions_note_every_parameter(module):
    """A comment stands beside each parameter of each public function."""
    path, wrong = LIB / f"{module}.py", []
    public = importlib.import_module(f"dgdd_nb.{module}").__all__
    with tokenize.open(path) as file:
        noted = {
            token.start[0]
            for token in tokenize.generate_tokens(file.readline)
            if token.type == tokenize.COMMENT
        }
    for name, node in defined(module):
        if isinstance(node, ast.FunctionDef) and name in public:
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            wrong += [f"{name}: {arg.arg}" for arg in arguments if arg.end_lineno not in noted]
    assert not wrong, f"no comment beside {', '.join(wrong)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_imports_only_lower_numbers(path):
    if not path.name[:2].isdigit():
        pytest.skip("not a numbered notebook")
    own, number = module_of(path), int(path.name[:2])
    for cell in cells(path):
        if cell["cell_type"] == "code":
            for name in imported(cell["source"]) - {own}:
                assert name in NUMBER, (
                    f"{path.name} imports dgdd_nb.{name}, which no notebook exports"
                )
                assert NUMBER[name] < number, f"{path.name} imports {NUMBER[name]:02d}_{name}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_quiet(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 900_000, "above 900 kB: fewer or smaller figures"
    assert "widgets" not in nb["metadata"], "widget state: run tools/refresh.py"
    ids = [cell["id"] for cell in nb["cells"]]
    assert len(ids) == len(set(ids)), "two cells share an id"
    for cell in nb["cells"]:
        texts = ["".join(cell["source"])]
        for out in cell.get("outputs", []):
            assert out["output_type"] != "error", "an error is stored"
            texts.append("".join(out.get("text", "")))
            texts += [
                "".join(value)
                for kind, value in out.get("data", {}).items()
                if kind.startswith("text/")
            ]
        for text in texts:
            assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text).group(0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_lines_fit(path):
    """Line length 100 in exported cells, 120 in the others; directives (captions) apart."""
    wrong = []
    for cell in cells(path):
        limit = 100 if re.search(r"^#\|\s*exports?\b", cell["source"], flags=re.M) else 120
        if cell["cell_type"] == "code":
            wrong += [
                line
                for line in cell["source"].splitlines()
                if len(line) > limit and not line.startswith("#|")
            ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_a_title_and_a_line(path):
    first = next(cell for cell in cells(path) if cell["cell_type"] == "markdown")
    assert first["source"].startswith("# ")
    assert re.search(r"^> \S", first["source"], flags=re.M), "one quoted line below the title"


def test_module_name_is_notebook_name():
    for path in NOTEBOOKS:
        if path.name[:2].isdigit() and path.parent == NBS:
            assert module_of(path) == path.stem[3:], path.name
    assert len(set(NUMBER.values())) == len(NUMBER), "two notebooks have the same number"
    assert sorted(NUMBER) == MODULES, "each module has its notebook and the other way round"


def test_notation_and_index_are_there():
    assert (NBS / "index.ipynb").exists() and (NBS / "notation.ipynb").exists()


def test_version_stands_in_one_place():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    version = config["DEFAULT"]["version"]
    assert f'__version__ = "{version}"' in (LIB / "__init__.py").read_text(encoding="utf-8")
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_readme_is_short_and_has_the_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    blocks = {
        head: re.search(rf"^## {head}\s*$.*?^```bash\n(.+?)^```", text, flags=re.M | re.S)
        for head in ("Run it", "Test it")
    }
    assert all(blocks.values()), (
        "the headings `## Run it` and `## Test it`, each with a ```bash block"
    )


def test_public_names_resolve():
    for module in MODULES:
        loaded = importlib.import_module(f"dgdd_nb.{module}")
        for name in loaded.__all__:
            assert not inspect.ismodule(getattr(loaded, name)), f"{module}.{name} is a module"
