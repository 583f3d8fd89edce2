"""What settings.ini requires: everything that is imported, with a floor that hosted notebooks have."""

import ast
import json
import re
import sys
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from environments import floors, requirements  # noqa: E402

IMPORT = {"pillow": "PIL", "scikit-learn": "sklearn", "umap-learn": "umap"}
BEHIND = {"tabulate", "ipywidgets"}  # used by pandas' to_markdown and by anywidget
OTHERS = {"tomllib": "Python 3.11", "threadpoolctl": "scikit-learn"}  # and what brings them
OURS = {"dgdd_nb", "tools", "workshop", "checks", "browsing"}


def declared(*kinds: str) -> set[str]:
    "The import names of requirements."
    lines = [line for kind in kinds for line in requirements()[kind]]
    names = [re.match(r"[\w.-]+", line).group(0).lower() for line in lines]
    return {IMPORT.get(name, name.replace("-", "_")) for name in names}


def imported(source: str) -> set[str]:
    "First parts of the names of foreign modules, wherever they are imported."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"__future__"} - set(OTHERS) - OURS


def test_what_modules_import_is_required_and_the_other_way_round():
    modules = [p.read_text(encoding="utf-8") for p in (ROOT / "dgdd_nb").glob("*.py")]
    found = set().union(*map(imported, modules))
    optional = declared("cluster", "hub") | {"umap", "timm", "IPython", "traitlets"}
    assert found - optional <= declared("package")
    assert declared("package") - BEHIND <= found


def test_pages_import_nothing_of_nbdev_and_only_what_a_reader_installs():
    reader = declared("package", "notebooks") | {"IPython", "nbformat", "ipykernel", "traitlets"}
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        if any(part.startswith((".", "_")) for part in path.relative_to(ROOT / "nbs").parts):
            continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code" and "eval: false" not in text:
                lines = [line for line in text.splitlines() if not re.match(r"\s*[%!]", line)]
                foreign = imported("\n".join(lines)) - reader
                assert not foreign - declared("cluster", "hub") - {"timm"}, (
                    f"{path.name}: {foreign}"
                )


def test_every_requirement_has_a_floor_that_hosted_notebooks_have():
    text = (ROOT / "tools" / "hosted.txt").read_text(encoding="utf-8")
    hosted = {n.lower(): v for n, v in re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.M)}
    for kind in ("package", "notebooks", "hub", "cluster", "dev"):
        for line in requirements()[kind]:
            assert re.search(r">=|==", line), f"{line} has no floor"
    reader = declared("package", "notebooks")
    for line in floors():
        name, floor = re.match(r"([\w.-]+)==([\d.]+)", line).groups()
        if name in hosted and IMPORT.get(name, name) in reader:
            assert Version(floor) <= Version(hosted[name]), line
