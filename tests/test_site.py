"""The documentation site: built from the notebooks, complete in itself, and a check that can fail."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from browsing import opened
from shared import ROOT, tool

from dgdd_nb.study import plain

for needed in ("nbdev", "smalldocs", "latex2mathml", "ziamath", "fontTools"):
    pytest.importorskip(needed, reason=f"{needed} is not installed (extra dev)")


site, badges = tool("site"), tool("badges")


def listing() -> dict[str, int]:
    """Files of the checkout that a build could write, with the time of their last change."""
    inside = (path for top in ("nbs", "_proc", "tools") for path in (ROOT / top).rglob("*.*"))
    return {
        str(path): path.stat().st_mtime_ns for path in inside if "__pycache__" not in path.parts
    }


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The site, built once; the checkout is left alone."""
    before = listing()
    folder = site.build(tmp_path_factory.mktemp("site") / "docs")
    assert len(before) > 30 and listing() == before
    return folder


@pytest.fixture
def two_pages(tmp_path) -> Path:
    """A small site that is in order."""
    page = (
        '<html><body><main><h2 id="here">Here</h2><a href="{other}#here">there</a>'
        '<figure><img src="dot.png" alt="a dot"><figcaption>A dot.</figcaption></figure></main></body></html>'
    )
    (tmp_path / "index.html").write_text(page.format(other="other.html"))
    (tmp_path / "other.html").write_text(page.format(other="index.html"))
    (tmp_path / "dot.png").write_bytes(b"")
    return tmp_path


def test_site_in_order_has_no_complaint(two_pages):
    assert site.check(two_pages) == []


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("other.html#here", "nowhere.html", "leads nowhere"),
        ("other.html#here", "../outside.html", "leads nowhere"),
        ("other.html#here", "other.html#gone", "no such place"),
        ("other.html#here", "#gone", "no such place"),
        ("other.html#here", "https://OWNER.github.io/x", "nobody"),
        ("other.html#here", "https:/broken", "not an address"),
        ('src="dot.png"', 'src="gone.png"', "leads nowhere"),
        ('src="dot.png"', 'src="https://example.org/dot.png"', "loads https://example.org"),
        ('alt="a dot"', 'alt=""', "no alternative text"),
        ("<figcaption>A dot.</figcaption>", "", "no caption"),
        ("<main>", '<script src="//example.org/x.js"></script><main>', "loads //example.org"),
        (
            "<main>",
            '<link rel="stylesheet" href="https://example.org/x.css"><main>',
            "loads https://example.org",
        ),
        ("<main>", "<style>@import url(https://example.org/x.css);</style><main>", "style loads"),
        (
            "<main>",
            "<iframe srcdoc=\"<img src='https://example.org/x.png' alt=x>\"></iframe><main>",
            "loads https://example.org",
        ),
        ("<main>", r"<main><p>\(x\)</p>", "markup shows"),
        ("<main>", '<main><p id="here">', "share the id"),
    ],
)
def test_check_sees(two_pages, old, new, complaint):
    path = two_pages / "index.html"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = [sentence for sentence in site.check(two_pages) if sentence.startswith("index.html")]
    assert complaint in " ".join(found)


def test_check_sees_a_font_from_elsewhere(two_pages):
    (two_pages / "x.css").write_text("@font-face { src: url('https://example.org/x.woff') }")
    assert any("x.css" in sentence for sentence in site.check(two_pages))


def test_built_site_is_in_order(built):
    assert site.check(built) == []
    assert site.undocumented(built) == []
    pages = {path.relative_to(built).with_suffix(".ipynb") for path in built.rglob("*.html")}
    own = {page for page in pages if page.parts[0] != "workshop"}
    assert own == {path.relative_to(site.NBS) for path in site.notebooks()}
    exercises = {path.name for path in site.WORKSHOP.glob("*.ipynb")}
    texts = {f"{name}.ipynb" for name in site.TEXTS.values()}
    assert {page.name for page in pages - own} == exercises | texts


def test_names_in_stored_outputs_are_no_tags(tmp_path, monkeypatch):
    """Classes and domains are called as their folders are; the page shows the letters."""
    from smalldocs.site import build

    rude = "<img src=x onerror=alert(1)>"
    table = plain(pd.DataFrame({"method": [rude]}))
    kinds = {"text/plain": rude, "text/markdown": table.to_markdown()}
    kinds["text/html"] = pd.DataFrame({"n": [rude]}).to_html()
    outputs = [{"output_type": "stream", "name": "stdout", "text": rude}]
    outputs += [
        {"output_type": "display_data", "metadata": {}, "data": {kind: text}}
        for kind, text in kinds.items()
    ]
    book = json.loads((site.NBS / "index.ipynb").read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": "x", "execution_count": 1}
    book["cells"] = [book["cells"][0], {**cell, "outputs": outputs}]
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs" / "index.ipynb").write_text(json.dumps(book), encoding="utf-8")
    for name in ("_quarto.yml", "styles.css"):
        shutil.copyfile(site.NBS / name, tmp_path / "nbs" / name)
    monkeypatch.setattr(site, "NBS", tmp_path / "nbs")
    (tmp_path / "work").mkdir()
    site.stage(tmp_path / "work", site.settings())
    pages = build(site.process(tmp_path / "work"), quiet=True).out
    site.finish(pages)
    text = (pages / "index.html").read_text(encoding="utf-8")
    assert text.count("&lt;img src=x") == 1 + len(kinds)
    assert not any("<img src=x" in path.read_text("utf-8") for path in pages.rglob("*.[hj][ts]*"))


def test_every_formula_is_mathml(built):
    text = (built / "30_proofs.html").read_text(encoding="utf-8")
    assert text.count("<math") > 100
    assert "katex" not in text.lower() and 'mathvariant="script' not in text
    assert not [line for line in re.findall(r"<math.*?</math>", text, flags=re.S) if "\\" in line]


def test_names_are_linked_and_their_source_is_there(built):
    text = (built / "14_surgery.html").read_text(encoding="utf-8")
    assert '<a href="#owndomain"><code>OwnDomain</code></a>' in text and '<h3 id="sgs"' in text
    assert "<summary>Source: OwnDomain</summary>" in text
    text = (built / "notation.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="13_resultant\.html#\w+"><code>', text)


def test_names_of_one_cell_stand_in_order_and_classes_say_so(built):
    cells = site.cells(site.NBS / "14_surgery.ipynb")
    source = "\n".join(cell for cell in cells if "#| export\n" in cell).lower()
    wanted = re.findall(r"^(?:def|class) ([a-z]\w*)", source, flags=re.M)
    text = (built / "14_surgery.html").read_text(encoding="utf-8")
    assert [found for found in re.findall(r'<h3 id="(\w+)"', text) if found in wanted] == wanted
    shown = site.html.unescape(re.sub(r"<[^>]+>", "", text))
    assert "class SGS(" in shown and "def decompose(" in shown and "def SGS(" not in shown


@pytest.mark.parametrize(
    "lines, scroll",
    [
        (["one long sentence", "and  one gap"], []),
        (["a    1.0   2.0", "b    3.0   4.0", "in words"], ["a    1.0   2.0", "b    3.0   4.0"]),
        (["a    1.0   2.0"], []),
        (["| a | b |", "| - | - |"], ["| a | b |", "| - | - |"]),
        (["tensor([[1., 2.],", "        [3., 4.]])"], ["tensor([[1., 2.],", "        [3., 4.]])"]),
    ],
)
def test_printed_lines_wrap_unless_they_stand_in_columns(lines, scroll):
    page = '<div class="cell-output cell-output-stdout">\n<pre><code>{}</code></pre>'
    done = site.PRINTED.sub(site.wrapped, page.format("\n".join(lines)))
    inside = done.partition("<code>")[2].partition("</code>")[0]
    outside = re.sub(r'(?s)<span class="wraps">.*?</span>', "", inside)
    assert [line for line in outside.split("\n") if line] == scroll
    assert re.sub(r"<[^>]*>", "", done) == re.sub(r"<[^>]*>", "", page.format("\n".join(lines)))


def test_sidebar_places_a_new_notebook_by_its_number(tmp_path):
    for name in ("index", "33_more", "tutorials/quickstart", "tutorials/another"):
        path = tmp_path / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        cell = {"cell_type": "markdown", "source": ["# Title\n", "\n", "> one line"]}
        path.write_text(json.dumps({"cells": [cell], "metadata": {}}))
    contents = site.sidebar(tmp_path)["website"]["sidebar"]["contents"]
    assert contents[0] == {"text": "Start", "href": "index.ipynb"}
    sections = [(s["section"], [page["href"] for page in s["contents"]]) for s in contents[1:]]
    assert sections == [
        ("Tutorials", ["tutorials/quickstart.ipynb", "tutorials/another.ipynb"]),
        ("Why", ["33_more.ipynb"]),
    ]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("see `SGS`", "see [`SGS`](14_surgery.ipynb#sgs)"),
        ("see `SGS()` and `other`", "see [`SGS()`](14_surgery.ipynb#sgs) and `other`"),
        (
            "[`SGS`](x.ipynb) [the `SGS` rule](y.ipynb)",
            "[`SGS`](x.ipynb) [the `SGS` rule](y.ipynb)",
        ),
        ("# `SGS`\n\n```python\n`SGS`\n```", "# `SGS`\n\n```python\n`SGS`\n```"),
        ("`twice`", "`twice`"),
        ("``SGS``", "``SGS``"),
        ("`scale` and `scale()`", "`scale` and [`scale()`](04_augment.ipynb#scale)"),
        ("[here](#A-Place)", "[here](#a-place)"),
    ],
)
def test_links_from_names(text, wanted):
    names = {
        "SGS": [("14_surgery.ipynb", "sgs")],
        "twice": [("a.ipynb", "twice"), ("b.ipynb", "twice")],
        "scale": [("04_augment.ipynb", "scale")],
        "augment.scale": [("04_augment.ipynb", "scale")],
    }
    assert site.linked(text, "10_matching.ipynb", names) == wanted
    imported = site.linked("`scale`", "x.ipynb", names, {"scale": "augment"})
    assert "](04_augment.ipynb#scale)" in imported
    assert "](../14_surgery.ipynb#sgs)" in site.linked("`SGS`", "tutorials/quickstart.ipynb", names)


# ------------------------------------------------------------------ Colab
OWNED = {"user": "someone", "repo": "dgdd_nb", "branch": "main"}


def test_the_colab_line_comes_once():
    title = "# Title\n\n> one line\n\nMore."
    later = badges.dressed(title, "nbs/x.ipynb", {**OWNED, "user": "OWNER"})
    assert later == f"# Title\n\n> one line\n\n{badges.LATER}\n\nMore."
    owned = badges.dressed(later, "nbs/tutorials/x.ipynb", OWNED)
    assert owned == badges.dressed(owned, "nbs/tutorials/x.ipynb", OWNED)
    assert "github/someone/dgdd_nb/blob/main/nbs/tutorials/x.ipynb" in owned
    assert "(../index.ipynb#in-colab)" in owned and badges.without_badge(owned) == title


# ------------------------------------------------------------------ in a browser
CONTRAST = """() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const part = (x) => x / 255 <= .03928 ? x / 255 / 12.92 : ((x / 255 + .055) / 1.055) ** 2.4;
  const light = (c) => .2126 * part(c[0]) + .7152 * part(c[1]) + .0722 * part(c[2]);
  const mix = (low, top) => low.map((b, i) => b * (1 - top[3]) + top[i] * top[3]);
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] > 0) layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce(mix, [255, 255, 255]);
  };
  const seen = {}, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, s = getComputedStyle(e), text = walk.currentNode.textContent.trim();
    if (!text || !e.getClientRects().length || s.visibility !== "visible") continue;
    if (e.closest("script, style, svg, .skip")) continue;
    const colour = parse(s.color), low = ground(e);
    for (let n = e; n; n = n.parentElement) colour[3] *= getComputedStyle(n).opacity;
    if (!colour[3]) continue;
    const one = light(mix(low, colour)), two = light(low);
    const ratio = (Math.max(one, two) + .05) / (Math.min(one, two) + .05), size = parseFloat(s.fontSize);
    const least = size >= 24 || (size >= 18.66 && s.fontWeight >= 700) ? 3 : 4.5;
    if (ratio < least) seen[`${e.tagName}.${e.className} ${s.color}`] = `${ratio.toFixed(2)} ${text.slice(0, 30)}`;
  }
  return seen;
}"""
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.browser
def test_pages_in_a_browser(built):
    """No request leaves the folder, no console error, contrast in both themes, figures and formulas."""
    with opened(color_scheme="light") as (page, errors):
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        for path in sorted(built.rglob("*.html")):
            name = path.stem
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
            page.add_style_tag(content="* { transition: none !important; }")
            first = page.evaluate(GROUND)
            assert page.evaluate(CONTRAST) == {}, name
            page.locator(".quarto-color-scheme-toggle").first.click()
            page.wait_for_function(f"(old) => {GROUND} !== old", arg=first)
            assert page.evaluate(CONTRAST) == {}, f"{name}, the other theme"
            drawn = "[...document.images].every((i) => i.complete && i.naturalWidth > 0)"
            assert page.evaluate(drawn), name
        page.goto((built / "30_proofs.html").as_uri())
        assert page.evaluate("document.fonts.check('16px Formulas')")
        box = page.locator(".math.display math").first.bounding_box()
        assert box["height"] > 20 and box["width"] > 50
        assert {url.split(":")[0] for url in requests} <= {"file", "data"}
        assert errors == []


SEARCHES = [  # what somebody types -> where the first answer leads
    ("my own images", "your_own_images"),
    ("regression", "questions.html#can-i-use-it-for-regression"),
    ("what does pure noise read", "13_resultant|questions"),
    ("resultant length", "13_resultant"),
    ("surg", "14_surgery"),
    ("which objective", "questions.html#which-objective-when"),
    ("workshop", "workshop/"),
    # ten questions that a reader should be able to answer from the site
    ("why a fresh random encoder at each step", "questions"),
    ("why must the augmentation draw be shared between domains", "04_augment|questions"),
    ("what is R range pure noise K = 3", "questions|13_resultant"),
    ("SGS update alpha beta", "questions|14_surgery"),
    ("matched step control", "questions|14_surgery"),
    ("domain of a synthetic image", "questions|06_distilled"),
    ("single source pseudo-domains", "questions|32_pseudo"),
    ("premise evidence for and against", "questions|31_premise"),
    ("distil my own folder", "questions|your_own_images"),
    ("paper PACS table GPU how long memory", "pacs|questions"),
]


@pytest.mark.browser
def test_search_finds_whole_words_and_can_be_read(built):
    index = (built / "search.js").read_text(encoding="utf-8")
    assert not re.search(r"\\\\(?:frac|mathcal|bar|text|sum)\b", index), "TeX in the search index"
    with opened(color_scheme="light") as (page, errors):
        page.goto((built / "index.html").as_uri())
        page.add_style_tag(content="* { transition: none !important; }")
        for query, wanted in SEARCHES:
            page.keyboard.press("/")
            page.locator(".smalldocs-search input:visible").fill(query)
            page.wait_for_timeout(300)
            first = page.locator(".smalldocs-search-results.show .search-result").first
            assert re.search(wanted, first.get_attribute("href")), query
            assert page.evaluate(CONTRAST) == {}, query
            marked = page.locator(".search-result mark").all_inner_texts()
            assert all(re.fullmatch(r"\w+", word) for word in marked), "whole words are marked"
            page.keyboard.press("Escape")
        assert errors == []


@pytest.mark.browser
def test_formulas_and_tables_fit_a_phone(built):
    """(10) with its number, bars as wide as what they cover, rows of numbers on one line."""
    with opened(width=390, height=800) as (page, errors):
        page.goto((built / "notation.html").as_uri())
        formula = page.locator(".math.display", has_text="(10)").first
        assert formula.evaluate("(f) => f.scrollWidth <= f.clientWidth + 1")
        bar = page.locator("mover[accent]").first
        parts = bar.evaluate("(m) => [...m.children].map((c) => c.getBoundingClientRect().width)")
        assert parts[1] > 0.6 * parts[0]
        page.goto((built / "benchmarks/mini_digits.html").as_uri())
        table = page.locator("table.numbers").first
        assert table.evaluate("(t) => t.scrollWidth > t.clientWidth")  # it scrolls
        rows = table.evaluate("(t) => [...t.rows].slice(1).map((r) => r.offsetHeight)")
        assert max(rows) < 80, "no difference breaks over four lines"
        assert errors == []


def test_toys_stand_where_they_are_linked(built):
    for name in ("10_matching", "12_fourier", "13_resultant"):
        assert (built / f"{name}.html").read_text(encoding="utf-8").count("<iframe") == 1, name
    source = {"cell_type": "markdown", "source": "[drag](tutorials/toys.ipynb#arrows)"}
    frame = [{"output_type": "display_data", "data": {"text/html": "<p>toy</p>"}, "metadata": {}}]
    made = site.with_toys([source], {"arrows": frame})
    assert [cell["cell_type"] for cell in made] == ["markdown", "code"]
    assert made[1]["outputs"] == frame
    assert site.with_toys([source], {}) == [source]


def test_what_is_published_is_what_was_tested():
    steps = (ROOT / ".github/workflows/docs.yml").read_text(encoding="utf-8")
    assert "tools/site.py --check" in steps and "quarto" not in steps.lower()


@pytest.mark.browser
def test_search_theme_and_keyboard(built):
    with opened(color_scheme="light") as (page, errors):
        page.goto((built / "index.html").as_uri())
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("/")
        page.keyboard.type("resultant_length")
        first = page.locator(".search-result").first
        first.wait_for()
        assert "resultant_length" in first.get_attribute("href")
        first.click()
        page.wait_for_url("**/13_resultant.html#resultant_length")
        before = page.evaluate(GROUND)
        page.locator(".quarto-color-scheme-toggle").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(f"(old) => {GROUND} !== old", arg=before)
        page.reload()
        assert page.evaluate(GROUND) != before
        assert errors == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [375, 1300])
def test_commands_and_printed_sentences_are_not_cut(built, width):
    cut = "[...document.querySelectorAll({})].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    with opened(width=width) as (page, errors):
        for name in ("index", "tutorials/quickstart", "tutorials/use_a_distilled_set"):
            page.goto((built / f"{name}.html").as_uri())
            assert page.evaluate(cut.format("'.cell-output pre, pre.bash'")) == [], name
        wide = page.evaluate("document.querySelector('main.content').clientWidth")
        assert width < 1200 or wide >= 850
        assert errors == []


@pytest.mark.browser
def test_a_phone_scrolls_down_only(built):
    with opened(width=360, height=740) as (page, errors):
        for path in sorted(built.rglob("*.html")):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path.name
        assert errors == []
