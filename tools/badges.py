"""Colab in every notebook, made from settings.ini: a line below the title, and a first code cell that installs.

    python tools/badges.py                     every notebook of nbs/
    python tools/badges.py nbs/14_surgery.ipynb
    python tools/badges.py --check             write nothing, exit 1 if a notebook differs

While `user` in settings.ini is the placeholder OWNER, the line says that Colab comes after publication.
Once an owner stands there, run this again: the line becomes a link. A second run changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER, LATER, CELL = "OWNER", "Colab: after publication", "colab"
LINE = re.compile(
    r"\n*^(?:Colab: after publication|\[Open in Colab\]\([^)\n]*\))[ \t]*$\n*", flags=re.M
)


def settings() -> dict[str, str]:
    """settings.ini, as nbdev reads it."""
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def badge(place: str, cfg: dict[str, str]) -> str:
    """The line of the notebook at a place of the repository, such as nbs/00_data.ipynb."""
    if cfg["user"] == PLACEHOLDER:
        return LATER
    page = f"https://colab.research.google.com/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/{place}"
    return f"[Open in Colab]({page})"


def without_badge(text: str) -> str:
    """Markdown without the line, for the README."""
    return LINE.sub("\n\n", text).strip()


def install_cell(cfg: dict[str, str], place: str) -> dict:
    """The cell that brings repository and package into a fresh Colab and does nothing elsewhere."""
    names = (
        cfg.get("notebooks_requirements", "") + " " + cfg.get("nbdev_requirements", "")
    ).split()
    extra = " ".join(
        f"'{name}'" for name in names if name != "jupyterlab"
    )  # Colab has its own Jupyter
    folder = f"{cfg['repo']}/{Path(place).parent.as_posix()}"
    source = [
        "#| hide\n",
        "# In Colab this fetches the repository and installs the package; anywhere else it does nothing.\n",
        "import importlib.util\n",
        "import sys\n",
        "\n",
        f'if "google.colab" in sys.modules and importlib.util.find_spec("{cfg["lib_name"]}") is None:\n',
        "    shell = get_ipython()\n",
        f'    shell.system("git clone -q --depth 1 --branch {cfg["branch"]} {cfg["git_url"]}")\n',
        f'    needed = "{extra}"\n',
        f'    shell.run_line_magic("pip", f"install -q ./{cfg["repo"]} {{needed}}")\n',
        f'    shell.run_line_magic("cd", "{folder}")',
    ]
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL,
        "metadata": {},
        "outputs": [],
        "source": source,
    }


def dressed(nb: dict, place: str, cfg: dict[str, str] | None = None) -> dict:
    """A copy of a notebook (as JSON) with its line and its first code cell; applying it again changes nothing."""
    cfg, nb = cfg or settings(), copy.deepcopy(nb)
    first = install_cell(cfg, place)["source"][:2]  # tools that rewrite notebooks may change the id
    nb["cells"] = [
        cell
        for cell in nb["cells"]
        if cell.get("id") != CELL and "".join(cell["source"]).splitlines(keepends=True)[:2] != first
    ]
    titles = [
        cell
        for cell in nb["cells"]
        if cell["cell_type"] == "markdown" and "".join(cell["source"]).lstrip().startswith("# ")
    ]
    if titles:
        text = without_badge("".join(titles[0]["source"]))
        head = re.match(r"# [^\n]+(?:\n+>[^\n]*)*", text).group(0)
        rest = text[len(head) :].strip()
        text = f"{head}\n\n{badge(place, cfg)}" + (f"\n\n{rest}" if rest else "")
        titles[0]["source"] = text.splitlines(keepends=True)
    code = [number for number, cell in enumerate(nb["cells"]) if cell["cell_type"] == "code"]
    if code:
        nb["cells"].insert(code[0], install_cell(cfg, place))
    return nb


def every_notebook() -> list[Path]:
    """The notebooks of nbs/, built copies and checkpoints apart (those of workshop/ want the files beside them)."""
    found = sorted((ROOT / "nbs").rglob("*.ipynb"))
    return [
        path
        for path in found
        if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts)
    ]


def main() -> int:
    """Read the command line, write or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="files; without: all")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    args = parser.parse_args()
    cfg, different = settings(), 0
    paths = [path.resolve() for path in args.notebooks] or every_notebook()
    for path in paths:
        place = path.relative_to(ROOT).as_posix()
        nb = json.loads(path.read_text(encoding="utf-8"))
        new = dressed(nb, place, cfg)
        if new == nb:
            continue
        different += 1
        if args.check:
            print(f"{place} has another Colab line or cell: run tools/badges.py")
        else:
            part = path.with_name(path.name + ".tmp")
            part.write_text(
                json.dumps(new, sort_keys=True, indent=1, ensure_ascii=False) + "\n",
                encoding="utf-8",
                newline="\n",
            )
            part.replace(path)
    print(f"{len(paths)} notebooks, {different} {'different' if args.check else 'changed'}")
    return int(args.check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
