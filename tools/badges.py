"""The Colab line below the title of every notebook, made from settings.ini.

    python tools/badges.py           write it
    python tools/badges.py --check   write nothing, exit 1 if a notebook differs

While `user` in settings.ini is the placeholder OWNER, the line says that Colab comes after publication. Once an owner
stands there, run this again: the line becomes a link. What a fresh Colab needs first stands in one place, in the
section "In Colab" of nbs/index.ipynb.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys

from books import ROOT, command_line, joined, notebooks, read, settings, write

LATER = "Colab: after publication"
LINE = re.compile(r"\n*^(?:Colab: after|\[Open in Colab\])[^\n]*$\n*", flags=re.M)
HEAD = re.compile(r"# [^\n]+(?:\n+>[^\n]*)*")


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
    check = command_line(__doc__, check="write nothing, compare").parse_args().check
    cfg, different = settings(), 0
    for path in notebooks():
        place, nb = path.relative_to(ROOT), read(path)
        title = next(c for c in nb["cells"] if joined(c["source"]).lstrip().startswith("# "))
        before = joined(title["source"])
        after = dressed(before, place.as_posix(), cfg)
        if before == after:
            continue
        different += 1
        print(f"{'differs' if check else 'written'}: {place}")
        if not check:
            title["source"] = after.splitlines(keepends=True)
            write(path, json.dumps(nb, ensure_ascii=False, indent=1) + "\n")
    print(f"{different} notebooks {'differ' if check else 'written'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
