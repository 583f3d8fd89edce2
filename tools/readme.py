"""Make README.md from nbs/index.ipynb (its stored outputs; nothing is executed).

    python tools/readme.py            write README.md and the pictures it shows
    python tools/readme.py --check    only compare, exit 1 if something differs

Cells behave as on the site: `#| hide` and `#| include: false` drop a cell, `#| echo: false` its code,
`#| output: false` its outputs. A picture that a cell shows becomes nbs/images/index-LABEL.png (`#| label:`,
else the cell's id), its `#| fig-alt:` the alternative text. Links are rewritten to start at the top of the repository.
"""

from __future__ import annotations

import base64
import posixpath
import re
import sys

from badges import without_badge
from books import NBS, ROOT, command_line, joined
from refresh import directives

README = ROOT / "README.md"
HEAD = "<!-- Made by tools/readme.py from nbs/index.ipynb: edit the notebook, not this file. -->"
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"]+)(\")")


def from_root(text: str) -> str:
    """Rewrite links relative to nbs/ as links relative to the repository."""

    def one(found: re.Match) -> str:
        before, target, after = [part for part in found.groups() if part is not None]
        if target.startswith("#"):  # a README has no capitals and punctuation there, Jupyter has
            return before + re.sub(r"[^\w#-]", "", target).lower() + after
        if re.match(r"[a-z]+:|/", target):
            return before + target + after
        return before + posixpath.normpath(posixpath.join(NBS.name, target)) + after

    return LINK.sub(one, text)


def hidden(marks: dict[str, str]) -> bool:
    """Whether the whole cell stays out of the README."""
    return "hide" in marks or "default_exp" in marks or marks.get("include", "").lower() == "false"


def shown(out) -> str:
    """One output that is no picture, as Markdown."""
    data = out.get("data", {})
    if "text/markdown" in data:
        return from_root(joined(data["text/markdown"]).strip())
    text = joined(out.get("text", "")) or joined(data.get("text/plain", ""))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""


def render() -> tuple[str, dict[str, bytes]]:
    """README text and pictures by file name, from the committed index notebook."""
    import nbformat

    parts, pictures = [HEAD], {}
    for cell in nbformat.read(NBS / "index.ipynb", 4).cells:
        marks = directives(cell.source)
        if cell.cell_type == "markdown" and not hidden(marks):
            parts.append(from_root(without_badge(cell.source)))
        if cell.cell_type != "code":
            continue
        lines = [line for line in cell.source.splitlines() if not line.strip().startswith("#|")]
        code = "\n".join(lines).strip()
        if code and not hidden(marks) and marks.get("echo", "").lower() != "false":
            parts.append(f"```python\n{code}\n```")
        # of a hidden cell with a label some text shows the picture
        if hidden(marks) and "label" not in marks or marks.get("output", "").lower() == "false":
            continue
        label = re.sub(r"[^\w-]", "-", marks.get("label", cell.id)).removeprefix("fig-")
        caption = marks.get("fig-cap", "").strip("\"'")
        alt, drawn = marks.get("fig-alt", caption).strip("\"'"), 0
        for out in cell.outputs:
            if png := out.get("data", {}).get("image/png"):
                name = f"index-{label}{f'-{drawn}' if drawn else ''}.png"
                drawn += 1
                pictures[name] = base64.b64decode(joined(png))
                text = f"![{alt}]({NBS.name}/images/{name})"
                text += f"\n\n*{caption}*" if caption else ""
            else:
                text = shown(out)
            parts += [] if hidden(marks) else [text]
    text = "\n\n".join(part for part in parts if part)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", pictures


def main() -> int:
    """Write or compare README.md and its pictures."""
    check = command_line(__doc__, check="write nothing, compare").parse_args().check
    text, pictures = render()
    wanted = {README: text.encode("utf-8")}
    wanted |= {NBS / "images" / name: data for name, data in pictures.items()}
    old = [path for path in (NBS / "images").glob("index-*.png") if path not in wanted]
    different = [
        path
        for path, data in wanted.items()
        if not path.exists()
        or data not in (path.read_bytes(), path.read_bytes().replace(b"\r\n", b"\n"))
    ]
    if check:
        for path in different + old:
            print(f"{path.relative_to(ROOT)} differs from nbs/index.ipynb: run tools/readme.py")
        return int(bool(different or old))
    for path in old:
        path.unlink()
    for path in different:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wanted[path])
    print(
        f"README.md: {len(text.splitlines())} lines, {len(pictures)} pictures, "
        f"{len(different) + len(old)} files changed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
