"""The Colab line below the title of every notebook, made from settings.ini.

    python tools/badges.py           write it
    python tools/badges.py --check   write nothing, exit 1 if a notebook differs

While `user` in settings.ini is the placeholder OWNER, the line says that Colab comes after publication. Once an owner
stands there, run this again: the line becomes a link. What a fresh Colab needs first stands in one place, in the
section "In Colab" of nbs/index.ipynb.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LATER = "Colab: after publication"
LINE = re.compile(r"\n*^(?:Colab: after|\[Open in Colab\])[^\n]*$\n*", flags=re.M)
HEAD = re.compile(r"# [^\n]+(?:\n+>[^\n]*)*")


def settings() -> dict[str, str]:
    """settings.ini, as nbdev reads it."""
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def badge(place: str, cfg: dict[str, str]) -> str:
    """The line of the notebook at a place of the repository, such as nbs/00_data.ipynb."""
    if cfg["user"] == "OWNER":
        return LATER
    page = f"https://colab.research.google.com/github/{cfg['user']}/{cfg['repo']}/blob/{cfg['branch']}/{place}"
    index = posixpath.relpath("nbs/index.ipynb", posixpath.dirname(place))
    return f"[Open in Colab]({page}), after the [set-up]({index}#in-colab)"


def without_badge(text: str) -> str:
    """Markdown without the line."""
    return LINE.sub("\n\n", text).strip()


def dressed(text: str, place: str, cfg: dict[str, str]) -> str:
    """A title cell with the line of its notebook; applying it again changes nothing."""
    text = without_badge(text)
    head = HEAD.match(text).group(0)
    rest = text[len(head) :].strip()
    return f"{head}\n\n{badge(place, cfg)}" + (f"\n\n{rest}" if rest else "")


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check, cfg, different = parser.parse_args().check, settings(), 0
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        place = path.relative_to(ROOT)
        if any(part.startswith((".", "_")) for part in place.parts):
            continue
        nb = json.loads(path.read_text(encoding="utf-8"))
        title = next(c for c in nb["cells"] if "".join(c["source"]).lstrip().startswith("# "))
        before = "".join(title["source"])
        after = dressed(before, place.as_posix(), cfg)
        if before == after:
            continue
        different += 1
        print(f"{'differs' if check else 'written'}: {place}")
        if not check:
            title["source"] = after.splitlines(keepends=True)
            text = json.dumps(nb, ensure_ascii=False, indent=1) + "\n"
            path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{different} notebooks {'differ' if check else 'written'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
