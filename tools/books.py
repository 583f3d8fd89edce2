"""What the tools share: places, settings.ini, reading and writing notebooks, the command line."""

from __future__ import annotations

import argparse
import json
import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"


def settings() -> dict[str, str]:
    """settings.ini, as nbdev reads it."""
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def notebooks(folder: Path = NBS) -> list[Path]:
    """Every notebook of a folder, checkpoints and built copies apart."""
    return [
        path
        for path in sorted(folder.rglob("*.ipynb"))
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]


def joined(text: str | list[str]) -> str:
    """A notebook stores text as one string or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def read(path: Path) -> dict:
    """A notebook."""
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path: Path, kind: str = "code") -> list[str]:
    """The sources of a notebook's cells of one kind."""
    return [joined(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def module_of(path: Path) -> str:
    """The module that a notebook exports, or ''."""
    found = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(cells(path)), flags=re.M)
    return found.group(1) if found else ""


def write(path: Path, text: str) -> bool:
    """Write a file, first under another name; whether it has changed."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return True


def command_line(doc: str, **flags: str) -> argparse.ArgumentParser:
    """A command line whose help is the docstring of the tool; flags are given with their help."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser
