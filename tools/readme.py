"""Make README.md from nbs/index.ipynb (its stored outputs; nothing is executed).

    python tools/readme.py            write README.md and the pictures it shows
    python tools/readme.py --check    only compare, exit 1 if something differs

nbconvert fills tools/readme.md.j2. Cells behave as on the site: `#| hide` and `#| include: false` drop
a cell, `#| echo: false` its code, `#| output: false` its outputs. A picture that a cell shows becomes
nbs/images/index-LABEL.png (`#| label:`, else the cell's id), its `#| fig-alt:` the alternative text.
Links are rewritten to start at the top of the repository.
"""

from __future__ import annotations

import base64
import posixpath
import re
import sys
from pathlib import Path

from badges import without_badge
from books import NBS, ROOT, command_line, joined
from refresh import directives

README = ROOT / "README.md"
TEMPLATE = Path(__file__).with_name("readme.md.j2")
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))|((?:src|href)=\")([^\"]+)(\")")


def from_root(text: str) -> str:
    """Rewrite links relative to nbs/ as links relative to the repository."""

    def one(found: re.Match) -> str:
        before, target, after = [part for part in found.groups() if part is not None]
        if re.match(r"[a-z]+:|#|/", target):
            return before + target + after
        return before + posixpath.normpath(posixpath.join(NBS.name, target)) + after

    return LINK.sub(one, text)


def hidden(marks: dict[str, str]) -> bool:
    """Whether the whole cell stays out of the README."""
    return "hide" in marks or "default_exp" in marks or marks.get("include", "").lower() == "false"


def stored_picture(cell, label: str) -> dict[str, bytes]:
    """The picture of a labelled cell that is hidden itself, by file name."""
    found = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
    return {
        f"index-{label.removeprefix('fig-')}.png": base64.b64decode(joined(png))
        for png in found[:1]
    }


def prepare(nb) -> tuple[list[dict], dict[str, bytes]]:
    """The cells as the template wants them, and the pictures to store by file name."""
    cells, pictures = [], {}
    for cell in nb.cells:
        marks = directives(cell.source)
        if hidden(marks) and "label" in marks:  # not shown here, but some text shows its picture
            pictures |= stored_picture(cell, marks["label"])
        if hidden(marks) or not cell.source.strip():
            continue
        if cell.cell_type == "markdown":
            cells.append({"prose": from_root(without_badge(cell.source))})
        if cell.cell_type != "code":
            continue
        lines = [line for line in cell.source.splitlines() if not line.strip().startswith("#|")]
        shows = marks.get("echo", "").lower() != "false"
        entry = {"code": "\n".join(lines).strip() if shows else "", "outputs": []}
        outputs = [] if marks.get("output", "").lower() == "false" else cell.outputs
        shown = 0
        for out in outputs:
            data = out.get("data", {})
            if "image/png" in data:
                name = re.sub(r"[^\w-]", "-", marks.get("label", cell.id)).removeprefix("fig-")
                name = f"index-{name}{f'-{shown}' if shown else ''}.png"
                shown += 1
                pictures[name] = base64.b64decode(joined(data["image/png"]))
                alt = marks.get("fig-alt", marks.get("fig-cap", "")).strip("\"'")
                entry["outputs"].append(
                    {
                        "picture": f"{NBS.name}/images/{name}",
                        "alt": alt,
                        "caption": marks.get("fig-cap", "").strip("\"'"),
                    }
                )
            elif "text/markdown" in data:
                entry["outputs"].append({"prose": from_root(joined(data["text/markdown"]).strip())})
            else:
                text = joined(out.get("text", "")) or joined(data.get("text/plain", ""))
                if text.strip():
                    entry["outputs"].append({"text": text.rstrip()})
        cells.append(entry)
    return cells, pictures


def render() -> tuple[str, dict[str, bytes]]:
    """README text and pictures, from the committed index notebook."""
    import nbformat
    from nbconvert.exporters import TemplateExporter

    nb = nbformat.read(NBS / "index.ipynb", 4)
    cells, pictures = prepare(nb)
    exporter = TemplateExporter(raw_template=TEMPLATE.read_text(encoding="utf-8"))
    nb.metadata["readme"] = cells
    text, _ = exporter.from_notebook_node(nb)
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
        or path.read_bytes().replace(b"\r\n", b"\n") != data
        and path.read_bytes() != data
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
