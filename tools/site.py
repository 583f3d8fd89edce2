"""Build the documentation site into _docs/ from the notebooks' stored outputs; nothing is executed.

    python tools/site.py              build
    python tools/site.py --check      build, then check links, anchors, images, figures, requests
    python tools/site.py --serve      build, then show it at an address on this machine

Everything happens in a temporary copy: the checkout gets _docs/ (ignored by git) and nothing else.
nbdev processes the notebooks, smalldocs renders them, then formulas become MathML (no script, no font,
no request) and pages are finished for phones and keyboards. What CI builds and tests is what is published.
"""

from __future__ import annotations

import ast
import base64
import html
import io
import json
import os
import posixpath
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote, urlsplit

from books import NBS, ROOT, cells, command_line, joined, module_of, notebooks, read, settings

SITE = ROOT / "_docs"
PLACEHOLDER = "OWNER"
# first digit, or the whole number, of a notebook
THEMES = {
    "0": "Ground",
    "1": "The method",
    "2": "Measure",
    "3": "Why",
    "4": "More objectives",
    "5": "Other systems",
    "6": "Use",
    **dict.fromkeys(("55", "56", "57", "58", "59"), "Use"),
}
FOLDERS = {"tutorials": "Tutorials", "workshop": "Workshop", "benchmarks": "Results"}
WORKSHOP = ROOT / "workshop"
TEXTS = {"README": "start", "plan": "plan", "slides": "slides", "quiz": "quiz"}  # its other pages
FIRST = (
    "start",
    "quickstart",
    "explore_alpha_beta",
    "toys",
    "questions",
    "your_own_images",
    "use_a_distilled_set",
    "hub",
    "plug_in_your_objective",
    "reading_guide",
)  # order inside a folder; others follow by name


def title(path: Path) -> str:
    """The first heading of a notebook."""
    found = re.search(r"^# (.+)$", "\n".join(cells(path, "markdown")), flags=re.M)
    return found.group(1).strip() if found else path.stem


# ------------------------------------------------------------------ before rendering
def sidebar(folder: Path) -> dict:
    """The sidebar: sections by the first digit, then by subfolder; a new notebook appears by itself."""
    entries, sections = [], {}
    for path in notebooks(folder):
        inside, number = path.relative_to(folder), path.name[:2]
        entry = {"text": title(path), "href": inside.as_posix()}
        if len(inside.parts) > 1:
            name = FOLDERS.get(inside.parts[0], inside.parts[0].replace("_", " ").capitalize())
        elif number.isdigit():
            name = THEMES.get(number, THEMES.get(number[0], ""))
            entry["text"] = f"{number}  {entry['text']}"
        else:
            name = ""
        (sections.setdefault(name, []) if name else entries).append(entry)
        if inside.as_posix() == "index.ipynb":
            entry["text"] = "Start"

    def place(entry: dict) -> tuple:
        stem = Path(entry["href"]).stem
        return (FIRST.index(stem) if stem in FIRST else len(FIRST), entry["href"])

    order = ["Tutorials", "Workshop", *THEMES.values(), "Results"]
    ranked = {name: order.index(name) if name in order else len(order) for name in sections}
    entries.sort(key=lambda entry: entry["href"] != "index.ipynb")
    entries += [
        {"section": name, "contents": sorted(sections[name], key=place)}
        for name in sorted(sections, key=lambda name: (ranked[name], name))
    ]
    return {"website": {"sidebar": {"contents": entries}}}


def owner_file(cfg: dict[str, str]) -> dict:
    """nbdev.yml: title, description, and addresses only where there is an owner."""
    website = {"title": cfg["title"], "description": cfg["description"]}
    if cfg["user"] != PLACEHOLDER:
        website |= {
            "site-url": cfg["doc_host"] + cfg["doc_baseurl"],
            "repo-url": cfg["git_url"],
            "repo-branch": cfg["branch"],
            "repo-subdir": cfg["nbs_path"],
            "repo-actions": ["source", "issue"],
        }
    return {"project": {"output-dir": SITE.name}, "website": website}


# the lines that are the method: their source stands open, checks and helpers are folded
OPEN = set("DM class_losses cotangents spectrum consensus resultant_length decompose SGS".split())


def folded(source: str) -> str:
    """The directives under which an exported cell stays on the page, '' for imports alone."""
    with suppress(SyntaxError):
        imports = (ast.Import, ast.ImportFrom, ast.If)
        nodes = [node for node in ast.parse(source).body if not isinstance(node, imports)]
        names = [
            getattr(node, "name", "") or ast.unparse(getattr(node, "targets", [node])[0])
            for node in nodes
        ]
        names = [name for name in names if name.isidentifier()]
        bases = [base for node in nodes for base in getattr(node, "bases", [])]
        plain = any("NamedTuple" in ast.unparse(base) for base in bases)
        fold = "show" if plain or OPEN.intersection(names) else "true"
        summary = "Source" + (f": {', '.join(names)}" if 0 < len(names) < 4 else "")
        if nodes:
            return f'#| exports\n#| code-fold: {fold}\n#| code-summary: "{summary}"'
    return ""


def split_title(cell: dict) -> list[dict]:
    """nbdev reads title and quoted line from the title cell and drops the rest: give the rest its own cell."""
    source = joined(cell["source"])
    found = re.match(r"\s*# [^\n]+\n+(?:>[^\n]*\n?)*", source)
    if cell["cell_type"] != "markdown" or not found:
        return [cell]
    rest = {**cell, "id": "after-title", "source": source[found.end() :].strip()}
    return [{**cell, "source": found.group(0)}] + ([rest] if rest["source"] else [])


BARE = {"metadata": {}, "nbformat": 4, "nbformat_minor": 5}
# a cell that holds nothing but such a link: on the site the toy stands below it
TOY = re.compile(r"\[[^\]]+\]\([\w./]*toys\.ipynb#(\w+)\)")


def with_toys(cells: list[dict], toys: dict[str, list[dict]]) -> list[dict]:
    """Cells, each link to a toy followed by the stored page of that toy."""
    made = []
    for cell in cells:
        made.append(cell)
        found = TOY.fullmatch(joined(cell["source"]).strip())
        name = found[1].lower() if found else ""
        if cell["cell_type"] == "markdown" and toys.get(name):
            frame = {"cell_type": "code", "id": f"toy-{name}", "metadata": {}}
            frame |= {"source": "#| echo: false\ntoy", "execution_count": None}
            made.append(frame | {"outputs": toys[name]})
    return made


def add_workshop(nbs: Path) -> None:
    """The exercises as handed out, and the texts around them, as pages of the site."""
    (nbs / "workshop").mkdir()
    pages = {f"{path.stem}.ipynb": read(path) for path in sorted(WORKSHOP.glob("*.ipynb"))}
    for name, page in TEXTS.items():
        if (WORKSHOP / f"{name}.md").exists():
            text = (WORKSHOP / f"{name}.md").read_text(encoding="utf-8")
            parts = re.split(r"(?m)^(?=## )", text)
            cells = [
                {"cell_type": "markdown", "id": f"{page}-{n}", "metadata": {}, "source": part}
                for n, part in enumerate(parts)
            ]
            pages[f"{page}.ipynb"] = {"cells": cells, **BARE}
    moved = [(r"\]\(\.\./nbs/", "](../")]
    moved += [(rf"\]\({name}\.md", f"]({page}.ipynb") for name, page in TEXTS.items()]
    for name, nb in pages.items():
        for cell in nb["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = changed(joined(cell["source"]), moved)
        path = nbs / "workshop" / name
        path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")


def stage(folder: Path, cfg: dict[str, str]) -> None:
    """Copy settings and notebooks; exported code stays on the page, folded below its documentation."""
    import yaml

    shutil.copyfile(ROOT / "settings.ini", folder / "settings.ini")
    nbs = folder / cfg["nbs_path"]
    shutil.copytree(NBS, nbs, ignore=shutil.ignore_patterns(".*", "_proc", "_docs", "__pycache__"))
    if NBS == ROOT / "nbs":
        add_workshop(nbs)
    last = {"cell_type": "markdown", "id": "last", "metadata": {}, "source": ""}
    page = NBS / "tutorials" / "toys.ipynb"
    played = read(page)["cells"] if page.exists() else []
    toys = {x["id"].removeprefix("toys-"): x["outputs"] for x in played if "outputs" in x}
    for path in notebooks(nbs):
        nb = read(path)
        nb["metadata"].pop("widgets", None)
        nb["cells"] = with_toys(nb["cells"], toys)
        for cell in nb["cells"]:
            if cell["cell_type"] == "markdown" and path.parent == nbs:
                cell["source"] = joined(cell["source"]).replace(
                    "](../workshop/README.md)", "](workshop/start.ipynb)"
                )
        nb["cells"] = [part for cell in nb["cells"] for part in split_title(cell)]
        nb["cells"].append(last)  # nbdev looks one further
        for cell in nb["cells"]:
            source = joined(cell["source"])
            exported = re.search(r"^#\|\s*export\s*$", source, flags=re.M)
            if cell["cell_type"] == "code" and exported and (fold := folded(source)):
                cell["source"] = source[: exported.start()] + fold + source[exported.end() :]
        path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")
    for name, content in (("nbdev.yml", owner_file(cfg)), ("sidebar.yml", sidebar(nbs))):
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (nbs / name).write_text(text, encoding="utf-8")


def exported(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Every exported name -> the notebooks that document it, with the anchor there ('' for constants)."""
    names: dict[str, list[tuple[str, str]]] = {}

    def add(name: str, anchor: str) -> None:
        names.setdefault(name, []).append((page, anchor))

    for path in notebooks(folder):
        module, page = module_of(path), path.relative_to(folder).as_posix()
        sources = [x for x in cells(path) if re.search(r"^#\|\s*exports?\s*$", x, flags=re.M)]
        for node in (node for source in sources for node in ast.parse(source).body):
            for target in getattr(node, "targets", []):
                if isinstance(target, ast.Name) and target.id.isupper() and target.id[0] != "_":
                    add(target.id, "")
            name = getattr(node, "name", "_")
            if name.startswith("_"):
                continue
            add(name, name.lower())
            add(f"{module}.{name}", name.lower())
            for sub in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(sub, ast.FunctionDef) and not sub.name.startswith("_"):
                    add(f"{name}.{sub.name}", name.lower())
    return names


ABOUT_NAMES = ("notation.ipynb", "tutorials/reading_guide.ipynb")
CODE_NAME = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(\(\))?`(?!`)")
UNTOUCHED = re.compile(
    r"(^```.*?^```[^\n]*$|!?\[(?:[^\[\]]|\[[^\]]*\])*\]\([^)]*\)|^#+ [^\n]*$|<a\b.*?</a>)",
    flags=re.M | re.S,
)  # fenced code, links, headings
ANCHOR = re.compile(r"(\]\((?:[^()\s:#]*\.ipynb)?#)([^()\s]+)(?=\))")


def linked(
    text: str,
    page: str,
    names: dict[str, list[tuple[str, str]]],
    imported: dict[str, str] | None = None,
) -> str:
    """Markdown with every exported name in backticks as a link to its documentation, relative to the page.

    A plain word such as `scale` may mean something else: it is linked where its own page or an import says so.
    """

    def one(found: re.Match) -> str:
        name = found.group(1).removeprefix("dgdd_nb.")
        module = (imported or {}).get(name.split(".")[0])
        places = names.get(f"{module}.{name}", names.get(name, []))
        own = [place for place in places if place[0] == page]
        word = name.islower() and name.isalpha() and not found.group(2) and page not in ABOUT_NAMES
        if not places or not own and (len(places) > 1 or (word and not module)):
            return found.group(0)
        target, anchor = (own or places)[0]
        here = posixpath.dirname(page) or "."
        address = "" if target == page else posixpath.relpath(target, here)
        address += f"#{anchor}" if anchor else ""
        return f"[{found.group(0)}]({address})" if address else found.group(0)

    # Jupyter keeps capitals and punctuation in anchors
    text = ANCHOR.sub(lambda x: x.group(1) + re.sub(r"[^\w.-]", "", x.group(2)).lower(), text)
    parts = UNTOUCHED.split(text)
    parts[::2] = [CODE_NAME.sub(one, part) for part in parts[::2]]
    return "".join(parts)


def imports(path: Path) -> dict[str, str]:
    """The names a notebook imports from the package -> the module they come from."""
    found = {}
    for source in cells(path):
        with suppress(SyntaxError):  # magics
            for node in ast.walk(ast.parse(source)):
                package, _, module = (getattr(node, "module", "") or "").partition(".")
                if isinstance(node, ast.ImportFrom) and package == "dgdd_nb" and module:
                    found |= {alias.name: module for alias in node.names}
    return found


def link_names(prepared: Path) -> None:
    """Link exported names in prose, docstrings and Markdown outputs; pages keep the names of their notebooks."""
    nbs = prepared.parent / settings()["nbs_path"]
    names, kinds = exported(nbs), classes(nbs)
    for path in notebooks(prepared):
        page = path.relative_to(prepared).as_posix()
        nb, known = read(path), imports(nbs / page)
        for cell in nb["cells"]:
            source = joined(cell["source"])
            if cell["cell_type"] == "raw":
                cell["source"] = re.sub(r"^output-file:.*\n", "", source, flags=re.M)
            elif cell["cell_type"] == "markdown":
                cell["source"] = linked(source, page, names, known)
            kept = ("text/markdown", "text/plain") if "show_doc(" in source else ("text/markdown",)
            for data in (out.get("data", {}) for out in cell.get("outputs", [])):
                for kind in (kind for kind in kept if kind in data):
                    text = documented(joined(data[kind]), kinds)
                    data[kind] = linked(text, page, names, known)
        path.write_text(json.dumps(nb, ensure_ascii=False), encoding="utf-8")


def classes(folder: Path) -> set[str]:
    """The names of all classes that a code cell defines."""
    sources = [source for path in notebooks(folder) for source in cells(path)]
    return set(re.findall(r"^class (\w+)", "\n".join(sources), flags=re.M))


def documented(text: str, kinds: Collection[str] = ()) -> str:
    """What `show_doc` wrote, without its link to a repository (the source stands below), with `class` for classes."""
    text = re.sub(r"\[source\]\([^)\n]*\)\{[^}\n]*\}\n*", "", text)
    kind = lambda found: f"{'class' if found[1] in kinds else 'def'} {found[1]}"  # noqa: E731
    text = re.sub(r"\b(?:torch\._C|collections\.abc|torch)\.(?=[A-Z]\w*)", "", text)
    return re.sub(r"^def (\w+)(?=\()", kind, text, flags=re.M)


def forgiving(signature: Callable) -> Callable:
    """Annotations that name something imported for type checkers only stay text."""

    def read(symbol, *args, **kwargs):
        try:
            return signature(symbol, *args, **kwargs)
        except NameError:
            return signature(symbol, *args, **{**kwargs, "eval_str": False})

    return read


def process(folder: Path) -> Path:
    """nbdev's own processing of every notebook into _proc; of the code, only `show_doc` runs."""
    sys.path.insert(0, str(ROOT))
    import fastcore.docments
    import nbdev.config
    import nbdev.serve
    from nbdev.processors import FilterDefaults, _is_showdoc, add_show_docs, exec_show_docs

    fastcore.docments.signature = forgiving(fastcore.docments.signature)

    class Document(exec_show_docs):
        """Names come from the exported module, not from running the notebook again."""

        def begin(self):
            super().begin()
            source = "\n".join(cell.source for cell in self.nb.cells if cell.cell_type == "code")
            module = re.search(r"^#\|\s*default_exp\s+(\S+)", source, flags=re.M)
            if module and hasattr(self, "k"):
                self.k.run_cell(  # a module may bear the name of its function
                    "import importlib\n"
                    f"globals().update(vars(importlib.import_module('dgdd_nb.{module[1]}')))"
                )

        def __call__(self, cell):
            if hasattr(self, "k") and self.nb.has_docs_ and _is_showdoc(cell):
                super().__call__(cell)

        def end(self):
            """No widget state: the site shows stored outputs."""

    class InOrder(add_show_docs):
        """Several names of one exported cell are documented as they stand there, not from the last to the first."""

        def begin(self):
            super().begin()
            runs = groupby(self.nb.cells, lambda cell: bool(getattr(cell, "has_sd", False)))
            self.nb.cells[:] = [
                cell for added, run in runs for cell in (reversed(list(run)) if added else run)
            ]

    class Procs(FilterDefaults):
        def base_procs(self):
            own = {exec_show_docs: Document, add_show_docs: InOrder}
            procs = [proc for proc in super().base_procs() if proc.__name__ != "add_links"]
            return [own.get(proc, proc) for proc in procs]

    nbdev.serve.FilterDefaults = Procs
    before = Path.cwd()
    os.chdir(folder)
    try:
        nbdev.config.get_config.cache_clear()
        prepared = folder / Path(nbdev.serve.proc_nbs(n_workers=0, force=True)).name
    finally:
        os.chdir(before)
    link_names(prepared)
    return prepared


# ------------------------------------------------------------------ rendering and finishing
MATH = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', flags=re.S)
TEX = [
    (r"\\[lr]?Vert(?![A-Za-z])|\\\|", "\u2016"),
    (r"\\mathbb\{1\}", "\U0001d7d9"),
    (r"\\textstyle", ""),
    (r"\\arg(?![A-Za-z])", r"\\operatorname{arg}"),
    (r"\\bar(?![A-Za-z])", r"\\overline"),
]
BREAK = re.compile(r"\\qquad|\\quad(?=\s*\\text\{or)")  # here a line may end on a narrow screen
SEARCH = Path(__file__).with_name("site_search.js")
LOAD = """if (!window.siteIndex) await new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = offset + "search.js"; script.onload = done; script.onerror = fail;
        document.head.append(script);
      });
      index = window.siteIndex;"""
SWAPS = {  # in the script of the renderer, which is pinned to one version
    'const r = await fetch(offset + "search.json");\n      index = await r.json();': LOAD,
    "const hits = fuse ?": "const hits = window.siteSearch ? window.siteSearch(index, q, limit) : fuse ?",
    "${snippet(e.text, q)}": "${window.siteSnippet(e.text, q, escapeHtml)}",
    "0.299 * r + 0.587 * g + 0.114 * b < 128;": 'document.documentElement.dataset.scheme === "alternate";',
}
# of the characters in formulas
RANGES = """20-7E A0-FF 131-131 237-237 2C6-2DD 300-36F 370-3FF 2010-2063 20D0-20E1 2100-214F
    2190-21FF 2200-22FF 2308-230B 23B4-23E1 27E6-27EF 1D400-1D7FF"""


def formula_font(path: Path) -> None:
    """A part of STIX Two Math (SIL Open Font License) for the formulas, so that they look alike everywhere."""
    import ziamath
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    source = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    font = TTFont(source, recalcTimestamp=False)
    options = {"layout_features": ["*"], "name_IDs": ["*"], "notdef_outline": True}
    chosen = Subsetter(Options(hinting=False, **options))
    ends = [[int(end, 16) for end in pair.split("-")] for pair in RANGES.split()]
    chosen.populate(unicodes=[code for first, last in ends for code in range(first, last + 1)])
    chosen.subset(font)
    for record in font["name"].names:  # a part goes by another name; copyright and licence stay
        if record.nameID in (1, 3, 4, 6, 16, 18, 20, 21, 25):
            record.string = "Formulas"
    font.flavor = "woff"
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)


def script(found: re.Match) -> str:
    """A capital script letter; browsers no longer read `mathvariant`."""
    special = dict(zip("BEFHILMR", "\u212c\u2130\u2131\u210b\u2110\u2112\u2133\u211b"))
    return f"<mi>{special.get(found[1], chr(0x1D49C + ord(found[1]) - 65))}</mi>"


BAR = '<mo accent="true">&#x02015;</mo>'
MATHML = (
    ("<mo minsize=", '<mo stretchy="true" symmetric="true" minsize='),
    (
        r"<mo((?:(?!space=)[^>])*)>(\||\u2016|&#x0007C;|&#x02016;)</mo>",
        r'<mo\1 lspace="0" rspace="0">\2</mo>',
    ),
    (  # a large bracket keeps its size when it carries a small sign
        r"<(msup|msub)>(<mo [^>]*minsize[^>]*>[^<]*</mo>)",
        r'\2<\1><mspace width="0" height="1em" depth="0.4em"/>',
    ),
    (r'<mi mathvariant="script">([A-Z])</mi>', script),
    ("<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>"),
)
PAGE = (  # no foreign address, no search library
    (r'<link[^>]*href="https://cdn[^>]*>|<script[^>]*src="https://cdn[^>]*></script>', ""),
    (r'<script src="[^"]*fuse\.min\.js"></script>', ""),
)
KEYBOARD = (  # buttons that a keyboard reaches; a heading may be called Title
    (
        r'<a (class="sidebar-item-toggle[^>]*?) role="navigation"([^>]*)>(.*?)</a>',
        r'<button type="button" \1\2>\3</button>',
    ),
    (
        r'<a class="sidebar-item-text[^>]*data-bs-toggle[^>]*>(.*?)</a>',
        r'<span class="sidebar-item-text sidebar-section-title">\1</span>',
    ),
    (r'(<a href="#[^"]*") id="toc-[^"]*"(?= class="nav-link")', r"\1"),
    (
        'title="Toggle dark mode"',
        'title="Light or dark" aria-label="Light or dark" role="button"',
    ),
    (
        r'<p>(Colab: after publication|<a href="https://colab\.[^"]*">[^<]*</a>)</p>',
        r'<p class="colab">\1</p>',
    ),
    (
        r"(?s)\A(.*?<body[^>]*>)",  # the first: explorers stand in frames
        r'\1<a class="skip" href="#quarto-document-content">Skip to the text</a>',
    ),
    ("<!-- WARNING: THIS FILE WAS AUTOGENERATED! DO NOT EDIT! -->", ""),
)


def changed(text: str, table: Collection[tuple]) -> str:
    """A text after several replacements."""
    for pattern, replacement in table:
        text = re.sub(pattern, replacement, text)
    return text


def converted(tex: str, display: str = "inline") -> str:
    """A formula as MathML; the bar of a mean is as wide as what it covers, and thick enough to be seen."""
    from latex2mathml.converter import convert

    parts, opened = (
        re.split(r"(<mover\b[^>]*>|</mover>)", changed(convert(tex, display=display), MATHML)),
        [],
    )
    for place, part in enumerate(parts):
        if part.startswith("<mover"):
            opened.append(place)
        elif part == "</mover>":
            start = opened.pop()
            if parts[place - 1].endswith(BAR):
                parts[start] = '<mover accent="true">'
                parts[place - 1] = (
                    parts[place - 1].removesuffix(BAR) + '<mo stretchy="true">&#x203E;</mo>'
                )
    return "".join(parts)


def mathml(found: re.Match) -> str:
    """One formula of the page as MathML; an equation number stands at the right edge."""
    kind, tex = found.group(1), html.unescape(found.group(2)).strip()
    number = re.search(r"\\tag\{([^}]*)\}", tex)
    tex = changed(tex, [(r"\\tag\{[^}]*\}", ""), *TEX]).strip()
    if kind == "inline":
        return f'<span class="math inline">{converted(tex)}</span>'
    parts = BREAK.split(tex)
    whole = all(part.count("{") == part.count("}") and part.strip() for part in parts)
    parts = parts if whole and "\\left" not in tex else [tex]
    code = "".join(converted(part.strip(), "block") for part in parts)
    tag = f'<span class="eq-number">({number.group(1)})</span>' if number else ""
    return f'<span class="math display" tabindex="0"><span class="lines">{code}</span>{tag}</span>'


HEADING = re.compile(r'<h([1-6])[^>]*data-anchor-id="([^"]+)"[^>]*>(.*?)</h\1>', flags=re.S)


def words(text: str) -> str:
    """What a reader sees of some HTML, in one line: formulas as signs, not as TeX; no buttons, no frames."""
    text = re.sub(
        r'(?s)<(script|style|svg|iframe|button|summary)\b.*?</\1>|<p class="colab">.*?</p>',
        " ",
        text,
    )
    text = re.sub(r"(?s)(<math.*?</math>)", lambda math: re.sub(r"<[^>]+>", "", math[1]), text)
    text = re.sub(r"</?(?:a|b|em|i|strong|code|span)\b[^>]*>", "", text)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def index_of(site: Path) -> list[dict[str, str]]:
    """The search index, read off the finished pages: one entry for each page and each heading."""
    entries = []
    for path in sorted(site.rglob("*.html")):
        page = path.read_text(encoding="utf-8")
        name, main = path.relative_to(site).as_posix(), page[page.index("<main") :]
        main = re.sub(r'(?s)<nav class="page-navigation".*', "", main[: main.rindex("</main>")])
        title = words(re.search(r"(?s)<h1[^>]*>(.*?)</h1>", main)[1])
        main = main[main.index("</h1>") + 5 :]
        places = [(0, "", ""), *((x.start(), x[2], words(x[3])) for x in HEADING.finditer(main))]
        for (start, anchor, section), (end, *_) in zip(places, [*places[1:], (len(main), "")]):
            text = words(HEADING.sub("", main[start:end]))
            href = f"{name}#{anchor}" if anchor else name
            entries.append({"href": href, "title": title, "section": section, "text": text})
    return entries


def table_of_contents(text: str) -> str:
    """Headings with formulas: the entry in the contents shows the formula too, not its TeX."""
    for found in HEADING.finditer(text):
        if "<math" in found.group(3):
            inner = re.sub(r"</?a\b[^>]*>", "", found.group(3))
            text = re.sub(
                rf'(<a href="#{re.escape(found.group(2))}" id="toc-[^>]*>).*?(</a>)',
                lambda entry, inner=inner: entry.group(1) + inner + entry.group(2),
                text,
                count=1,
                flags=re.S,
            )
    return text


PRINTED = re.compile(
    r'(<div class="cell-output cell-output-(?:stdout|display)">\s*<pre><code>)(.*?)(?=</code></pre>)',
    flags=re.S,
)
COLUMNS = re.compile(r"^\s*[|\u2500-\u257f]|^(?:tensor|array)\(|^\s+\[|\S {2,}\S.*\S {2,}\S")


def wrapped(found: re.Match) -> str:
    """A printed output: lines in columns stay whole and scroll, all other lines wrap."""
    runs = []
    lines = found.group(2).split("\n")
    for columns, run in groupby(lines, lambda line: bool(COLUMNS.search(html.unescape(line)))):
        run = list(run)
        text = "\n".join(run)
        alone = len(run) == 1  # one line has nothing to stand under
        runs.append(text if columns and not alone else f'<span class="wraps">{text}</span>')
    return found.group(1) + "\n".join(runs)


TABLE = re.compile(r'<table class="([^"]*)">(.*?)</table>', flags=re.S)


def numbers(found: re.Match) -> str:
    """A table; one of numbers says so, and keeps each row on one line."""
    shown = [re.sub(r"<[^>]+>", "", x) for x in re.findall(r"(?s)<td[^>]*>(.*?)</td>", found[2])]
    shown = [html.unescape(cell).strip() for cell in shown]
    count = sum(bool(re.match(r"[+\-\u2212]?\d", cell)) for cell in shown)
    kind = " numbers" if 3 * count > len(shown) and max(map(len, shown), default=99) < 60 else ""
    long = r"<td>(?=[^<]{21})"  # a difference with its interval may take two lines
    inside = re.sub(long, '<td class="long">', found[2]) if kind else found[2]
    return f'<table class="{found[1]}{kind}">{inside}</table>'


PICTURE = re.compile(r'src="data:image/png;base64,([^"]+)"')


def smaller(found: re.Match) -> str:
    """A picture of a page as WebP without loss: the same pixels, a third less to load."""
    from PIL import Image, features

    given = base64.b64decode(found[1])
    made = io.BytesIO()
    with Image.open(io.BytesIO(given)) as image:
        opaque = image.mode == "RGBA" and image.getextrema()[3] == (255, 255)
        image = image.convert("RGB") if opaque else image
        if features.check("webp"):
            image.save(made, "WEBP", lossless=True, method=3, exact=True)
    if not 0 < len(made.getvalue()) < len(given):
        return found[0]
    return f'src="data:image/webp;base64,{base64.b64encode(made.getvalue()).decode()}"'


def finish_page(text: str) -> str:
    """One rendered page: formulas without scripts, buttons that a keyboard reaches, no foreign address."""
    text = table_of_contents(MATH.sub(mathml, changed(text, PAGE)))
    text = PICTURE.sub(smaller, text)
    return changed(TABLE.sub(numbers, PRINTED.sub(wrapped, text)), KEYBOARD)


def finish(site: Path) -> None:
    """All rendered pages, styles and scripts: complete in themselves, readable from a folder too."""
    for path in site.rglob("*.html"):
        path.write_text(finish_page(path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (site / "site_libs").rglob("*.css"):  # no fonts from elsewhere
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"@import\s+url\(https?:[^)]*\);", "", text), encoding="utf-8")
    formula_font(site / "site_libs" / "formulas" / "formulas.woff")
    with (site / "site_libs" / "smalldocs.css").open("a", encoding="utf-8") as file:
        file.write(
            '\n@font-face { font-family: "Formulas"; font-display: swap;'
            ' src: url("formulas/formulas.woff") format("woff"); }\n'
        )
    script = site / "site_libs" / "smalldocs.js"
    text = script.read_text(encoding="utf-8")
    for old, new in SWAPS.items():
        if old not in text:
            raise RuntimeError(
                f"smalldocs wrote something else than expected (wanted: {old!r}); use smalldocs==0.5.4."
            )
        text = text.replace(old, new)
    script.write_text(text, encoding="utf-8")
    entries = json.dumps(index_of(site), ensure_ascii=False).replace("<", "\\u003c")
    search = f"window.siteIndex = {entries};{SEARCH.read_text(encoding='utf-8')}"
    (site / "search.js").write_text(search, encoding="utf-8")
    (site / "search.json").unlink()
    shutil.rmtree(site / "site_libs" / "fuse", ignore_errors=True)
    (site / ".nojekyll").touch()


def build(site: Path = SITE) -> Path:
    """The whole site into one folder, made beside it first and swapped in when it is complete."""
    from smalldocs import highlight
    from smalldocs.site import build as render

    highlight.css_class = cache(highlight.css_class)  # half of the rendering time otherwise
    with tempfile.TemporaryDirectory(prefix="dgdd_site.") as work:
        stage(Path(work), settings())
        prepared = process(Path(work))
        done = render(prepared, quiet=True)
        for line in done.warnings:
            if "html-math-method" not in line:
                print(f"note: {line}")
        shutil.copytree(NBS / "images", done.out / "images", dirs_exist_ok=True)
        finish(done.out)
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(done.out, site)
    return site


# ------------------------------------------------------------------ checking
LOADERS = "img script iframe source video audio embed object track".split()
PAGE_LIMIT = 600_000  # bytes
TEXT_MARKS = (r"\(", r"\[", ":::", "{{<", "#|", "$$")


class Page(HTMLParser):
    """What a page links to, shows, and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.loads, self.problems = set(), [], [], []
        self.inside, self.main, self.figure, self.caption = [], False, 0, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = {key: value or "" for key, value in attrs}
        if given.get("id"):
            if given["id"] in self.ids and tag not in ("path", "g", "use"):
                self.problems.append(f"two elements share the id {given['id']}")
            self.ids.add(given["id"])
        if given.get("name") and tag == "a":
            self.ids.add(given["name"])
        if tag == "main":
            self.main = True
        if tag in ("pre", "code", "script", "style", "math", "textarea"):
            self.inside.append(tag)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "alternate"):
            self.loads.append(given.get("href", ""))
        for key in ("src", "poster", "data"):
            if given.get(key) and tag in LOADERS:
                self.loads.append(given[key])
        if given.get("srcset"):
            self.loads += [part.split()[0] for part in given["srcset"].split(",") if part.split()]
        if given.get("srcdoc"):
            inside = Page(given["srcdoc"]).loads
            self.loads += [link for link in inside if not link.startswith("data:")]
        self.problems += styles(given.get("srcdoc", "") + given.get("style", ""))
        if tag == "figure":
            self.figure, self.caption = self.figure + 1, False
        if tag == "figcaption":
            self.caption = True
        if tag == "img" and self.main:
            if not given.get("alt", "").strip():
                source = given.get("src", "")[:60]
                self.problems.append(f"a picture has no alternative text: {source}")
            if not self.figure and given.get("src", "").startswith("data:"):
                self.problems.append(f"a figure has no caption: {given.get('alt', '')[:80]}")

    def handle_endtag(self, tag: str) -> None:
        if tag == "main":
            self.main = False
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()
        if tag == "figure":
            self.figure -= 1
            if not self.caption and self.main:
                self.problems.append("a figure has no caption")

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "style":
            self.problems += styles(data)
        if self.main and not self.inside and any(mark in data for mark in TEXT_MARKS):
            self.problems.append(f"markup shows as text: {data.strip()[:80]!r}")


def styles(text: str) -> list[str]:
    """Addresses that a style would fetch."""
    address = r"(?:@import\s*|url\()\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)"
    return [f"a style loads {found}" for found in re.findall(address, text)]


def check(site: Path = SITE) -> list[str]:
    """Everything wrong with a built site, one sentence each: links, anchors, pictures, requests, leftovers."""
    texts = {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css", ".js")
    }
    pages = {name: Page(text) for name, text in texts.items() if name.endswith(".html")}
    wrong = [] if "index.html" in pages else ["there is no index.html"]
    for name, page in pages.items():
        if len(texts[name].encode()) > PAGE_LIMIT:
            size = len(texts[name].encode()) // 1000
            wrong.append(f"{name}: has {size} kB, the limit is {PAGE_LIMIT // 1000}")
        wrong += [f"{name}: {problem}" for problem in page.problems]
        wrong += [
            f"{name}: loads {link}" for link in page.loads if re.match(r"(?:[a-z]+:)?//", link)
        ]
        for link in page.links + [link for link in page.loads if not link.startswith("data:")]:
            if problem := link_problem(site, name, link, pages):
                wrong.append(f"{name}: {link} {problem}")
    for name, text in texts.items():
        if name.endswith(".css"):
            wrong += [f"{name}: {problem}" for problem in styles(text)]
        fetched = re.search(r"(?:fetch|import|importScripts)\s*\(?\s*[\"'`]https?:", text)
        if name.endswith(".js") and name != "search.js" and fetched:
            wrong.append(f"{name}: loads a foreign address")
    return list(dict.fromkeys(wrong))


def link_problem(site: Path, name: str, link: str, pages: dict[str, Page]) -> str:
    """What is wrong with one link of a page, or ''."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if PLACEHOLDER in link:
            return "points at nobody's page"
        bad = "." not in parts.netloc or " " in link
        return "is not an address" if parts.scheme in ("http", "https") and bad else ""
    target = name
    if parts.path:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
    if target.startswith("..") or not (site / target).is_file():
        return "leads nowhere"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
        return "has no such place on its page"
    return ""


def undocumented(site: Path = SITE) -> list[str]:
    """Exported functions and classes that have no place on their page."""
    wrong, texts = [], {}
    for name, places in exported(NBS).items():
        for notebook, anchor in places if "." not in name else []:
            page = site / Path(notebook).with_suffix(".html")
            if page not in texts:
                texts[page] = page.read_text(encoding="utf-8") if page.exists() else ""
            if anchor and f'id="{anchor}"' not in texts[page]:
                wrong.append(f"{page.name}: {name} is exported and not documented")
    return wrong


def serve(site: Path) -> None:
    """Show the built site at a free port of this machine until Ctrl-C."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    shown = partial(SimpleHTTPRequestHandler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), shown) as server:
        print(f"http://127.0.0.1:{server.server_port} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def main() -> int:
    """Read the command line; build, then check or serve."""
    args = command_line(
        __doc__,
        check="check the built site; exit 1 if something is wrong",
        serve="show it afterwards",
    ).parse_args()
    start = time.perf_counter()
    site = build()
    pages = list(site.rglob("*.html"))
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    seconds = time.perf_counter() - start
    print(f"{site.name}/index.html: {len(pages)} pages, {size / 1e6:.1f} MB, {seconds:.0f} s")
    wrong = check(site) + undocumented(site) if args.check else []
    for sentence in wrong:
        print(sentence)
    if args.check:
        print(f"{len(pages)} pages checked, {len(wrong)} problems")
    if args.serve:
        serve(site)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
