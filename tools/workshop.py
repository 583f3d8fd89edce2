"""Make the exercise and solution notebooks of the workshop from one source each.

    python tools/workshop.py            write workshop/*.ipynb and workshop/solutions/*.ipynb
    python tools/workshop.py --check    only compare, outputs apart; exit 1 if something differs
    python tools/workshop.py --run      then execute the solutions and store their outputs

A source, workshop/source/NAME.py, is a Python script: a line `# %%` starts a code cell, `# %% [markdown]` a text
cell (one string in triple quotes). The lines between `# BLANK: what to write` and `# END` are the solution; the
exercise has a comment `# your code: what to write` and `...` in their place. Cell ids are the number of the exercise
and of the cell. Exercises have no outputs. Solutions keep theirs down to the first code cell that has changed: what
stands below it was computed from something else. `--run` makes them again in a fresh kernel, stripped as
tools/refresh.py strips the pages, so that a second run gives the same bytes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from pathlib import Path

import nbformat
import refresh
from books import ROOT, command_line, joined, write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

WORKSHOP = ROOT / "workshop"
BLANK = re.compile(
    r"^(?P<indent> *)# BLANK: (?P<what>.+)\n(?P<body>(?:.*\n)*?) *# END *\n", flags=re.M
)
UP = 'import sys\n\nsys.path.insert(0, "..")  # checks.py stands one folder up\n\n'
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def split_cells(text: str) -> list[tuple[str, str]]:
    """The cells of a source as (kind, text); what stands above the first mark is no cell."""
    pieces = re.split(r"^# %%(.*)\n", text, flags=re.M)[1:]
    cells = []
    for mark, body in zip(pieces[::2], pieces[1::2]):
        if mark.strip() != "[markdown]":
            cells.append(("code", body.strip("\n")))
        elif found := re.fullmatch(r'r?"""(.*)"""', body.strip(), flags=re.S):
            cells.append(("markdown", found.group(1).strip("\n")))
        else:
            raise ValueError(f"a [markdown] cell is one string in triple quotes: {body[:60]!r}")
    return cells


def with_blanks(code: str) -> str:
    """A cell as the learner gets it."""

    def empty(found: re.Match) -> str:
        indent = found["indent"]
        first, *rest = textwrap.wrap(found["what"], 84 - len(indent))
        lines = [f"# your code: {first}", *(f"#   {line}" for line in rest), "..."]
        return "".join(f"{indent}{line}\n" for line in lines)

    return BLANK.sub(empty, code + "\n").rstrip("\n")


def solved(code: str) -> str:
    """A cell of the solution."""
    return BLANK.sub(lambda found: found["body"], code + "\n").rstrip("\n")


def code_cells(text: str) -> list[dict]:
    """The code cells of a stored notebook."""
    return [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def cleared(text: str) -> str:
    """A notebook without its outputs."""
    nb = json.loads(text)
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
    return json.dumps(nb, sort_keys=True)


def notebook(source: Path, solution: bool, before: list[dict] = ()) -> str:
    """The text of one notebook; `before`: the code cells of the stored one, whose outputs are kept."""
    number, up, cells = source.stem.split("_")[0], UP if solution else "", []
    for i, (kind, text) in enumerate(split_cells(source.read_text(encoding="utf-8"))):
        key = f"{'solution' if solution else 'exercise'}-{number}-{i:02d}"
        if kind == "markdown":
            if solution:  # one folder further down
                text = text.replace("](../", "](../../")
                text = re.sub(r"\A# (.+)", r"# \1: solution", text) if i == 0 else text
            cells.append(new_markdown_cell(text, id=key))
            continue
        text = solved(text) if solution else with_blanks(text)
        if "# BLANK" in text or "# END" in text:
            raise ValueError(
                f"{source.name}: a BLANK without END, or an END without BLANK, in {text[:60]!r}"
            )
        cells.append(new_code_cell(up + text, id=key))
        up = ""
    for cell, old in zip([cell for cell in cells if cell.cell_type == "code"], before):
        if cell.source != joined(old["source"]):
            break
        cell.outputs = nbformat.from_dict(old["outputs"])
    nb = new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)
    nbformat.validate(nb)
    return nbformat.writes(nb) + "\n"


def executed(path: Path) -> list[dict]:
    """The code cells of a solution after a run in a fresh kernel, with one thread, outputs stripped."""
    os.environ.update(dict.fromkeys(refresh.THREADS, "1"), PYTHONHASHSEED="0")
    os.environ.pop("MPLBACKEND", None)  # else the kernel draws nothing inline
    return code_cells(refresh.tidy(refresh.execute(path, set(), 600)[0]))


def differs(path: Path, text: str) -> bool:
    """Whether a stored notebook is not what its source makes; outputs of a solution do not count."""
    if not path.exists():
        return True
    before = path.read_text(encoding="utf-8")
    if path.parent.name == "solutions":
        before, text = cleared(before), cleared(text)
    return before != text


def wanted() -> dict[Path, str]:
    """Every notebook of the workshop with the text that it should have."""
    texts = {}
    for source in sorted((WORKSHOP / "source").glob("*.py")):
        texts[WORKSHOP / f"{source.stem}.ipynb"] = notebook(source, solution=False)
        path = WORKSHOP / "solutions" / f"{source.stem}.ipynb"
        before = code_cells(path.read_text(encoding="utf-8")) if path.exists() else []
        texts[path] = notebook(source, solution=True, before=before)
    return texts


def main() -> int:
    """Write or compare the notebooks."""
    args = command_line(
        __doc__, check="write nothing, compare", run="execute the solutions, store their outputs"
    ).parse_args()
    texts = wanted()
    if args.check:
        there = [*WORKSHOP.glob("*.ipynb"), *(WORKSHOP / "solutions").glob("*.ipynb")]
        old = [path for path in there if path not in texts]
        different = [path for path, text in texts.items() if differs(path, text)]
        for path in different:
            print(f"{path.relative_to(ROOT)} differs from its source: run tools/workshop.py")
        for path in old:
            print(f"{path.relative_to(ROOT)} has no source: move or delete it")
        print(f"{len(texts)} notebooks compared, {len(different + old)} differ")
        return int(bool(different or old))
    changed = {path for path, text in texts.items() if write(path, text)}
    for path in texts:
        if args.run and path.parent.name == "solutions":
            source = WORKSHOP / "source" / f"{path.stem}.py"
            if write(path, notebook(source, solution=True, before=executed(path))):
                changed.add(path)
    print(f"{len(texts)} notebooks, {len(changed)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
