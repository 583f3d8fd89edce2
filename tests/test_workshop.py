"""The workshop: every solution passes, every blank and every typical mistake gets a message of its own."""

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import ROOT, loaded, tool

from dgdd_nb.distill import distill
from dgdd_nb.evaluate import evaluate, student_interval
from dgdd_nb.matching import DM
from dgdd_nb.surgery import SGS

nbformat = pytest.importorskip("nbformat")

WORKSHOP = ROOT / "workshop"
checks = loaded("checks", WORKSHOP / "checks.py")
NAMES = sorted(checks.EXERCISES)
ALL_CHECKS = [check for group in checks.EXERCISES.values() for check in group]
by_name = pytest.mark.parametrize("name", NAMES)


def name_of(check):
    return check.__name__.removeprefix("check_")


# ---------------------------------------------------------------- typical mistakes


@pytest.mark.parametrize("name", [name for name in checks.MISTAKES if name != "hints"])
def test_mistakes_of_the_table_get_their_sentence(name):
    check = getattr(checks, f"check_{name}")
    tables = [checks.MISTAKES[name].get(kind, {}) for kind in ("said", "trained")]
    for text, sentence in (pair for table in tables for pair in table.items()):
        trials, spaces = check.trials(), []

        def answer(*values):
            inputs, right = next(trials)  # noqa: B023
            spaces.append(checks.named(name, dict(zip(inputs, values)), right))  # noqa: B023
            if "generator" in inputs:
                torch.rand(1, generator=spaces[-1]["generator"])  # noqa: B023
            return checks.computed(text, spaces[-1])  # noqa: B023

        verdict = check(answer)
        assert not verdict, text
        assert verdict.sentence == f"{name} {sentence.format_map(spaces[-1])}", text
        assert repr(verdict) == f"Not yet: {verdict.sentence}" and verdict.sentence[-1] in ".?"


def loss(real, synthetic):
    return ((real.mean(0) - synthetic.mean(0)) ** 2).sum()


def gradient(encoder, real, images, of=None):
    s = images.clone().requires_grad_()
    return torch.autograd.grad(loss(encoder.embed(real), encoder.embed(s)), of or s)


def backward(encoder, real, images):
    s = images.clone().requires_grad_()
    loss(encoder.embed(real), encoder.embed(s)).backward()
    return s


def marks_input(encoder, real, images):
    return torch.autograd.grad(
        loss(encoder.embed(real), encoder.embed(images.requires_grad_())), images
    )[0]


def copies_too_late(encoder, real, images):
    made = loss(encoder.embed(real), encoder.embed(images))
    return torch.autograd.grad(made, images.clone().requires_grad_())[0]


def accumulated(encoder, real_by_domain, images):
    s, found = images.clone().requires_grad_(), []
    for p in encoder.parameters():
        p.requires_grad_(False)
    for real in real_by_domain:
        loss(encoder.embed(real), encoder.embed(s)).backward()
        found.append(s.grad.clone())
    return torch.stack(found)


def level(K, samples, generator=None):
    z = torch.randn(K, samples, dtype=torch.complex64, generator=generator)
    return z.sum(0).abs() / z.abs().sum(0)


def seeded(K, samples, generator):
    torch.manual_seed(0)
    return level(K, samples).mean()


def mean_in_place(g_domain):
    g_domain /= len(g_domain)
    return g_domain.sum(0)


def pair(source, ipc, steps, seed, ours=True, plain=False, **other):
    """Two sets; `other` changes options of the second."""
    options = {"ipc": ipc, "steps": steps, "seed": seed}
    surgeries = (SGS() if plain else None, SGS() if ours else None)
    return [
        distill(source, DM(), surgery=s, **{**options, **more})
        for s, more in zip(surgeries, ({}, other))
    ]


def claim(low, high, seeds, networks, needed=(5, 10), by_mean=False, words=("worse", "better")):
    """The right answer, and by its options wrong ones."""
    if seeds < needed[0] or networks < needed[1]:
        return checks.CLAIMS[0]
    if low <= 0 <= high and not by_mean:
        return checks.CLAIMS[1]
    return f"SGS is {words[low + high > 0]}"


def late_claim(low, high, seeds, networks):
    return checks.CLAIMS[1] if low <= 0 <= high else claim(low, high, seeds, networks)


WRONG = {  # check -> wrong answers, and a part of the sentence that each gets
    checks.check_dm_loss: [
        (lambda a, b: ((a - b).mean(0) ** 2).sum(), "axis 0 counts the images"),
        (lambda a, b: loss(a, b).item(), "plain number: .item()"),
        (lambda a, b: loss(a, b).detach(), "no graph"),
        (lambda a, b: 2 * loss(a, b), "2 times what it should be, on all inputs tried"),
        (lambda a, b: -loss(a, b), "has the wrong sign."),
        (
            lambda a, b: a.shape[1] * loss(a, b),
            "too large by the factor 7, the number of feature dimensions",
        ),
        (lambda a, b: loss(a.median(0).values, b), "one number, but not the right one: it is"),
    ],
    checks.check_image_gradient: [
        (gradient, "one entry: take its entry [0]"),
        (lambda *x: backward(*x).grad, "torch.autograd.grad(loss, copy)[0]"),
        (lambda *x: backward(*x) and None, "wrote the gradient into copy.grad"),
        (marks_input, "switches on requires_grad of its input images"),
        (lambda e, a, b: torch.autograd.grad(loss(a, b), b)[0], "torch must follow the images"),
        (copies_too_late, "copy first and embed the copy"),
        (lambda e, a, b: torch.autograd.grad(None.sum(), b)[0], "something there is None"),
    ],
    checks.check_domain_gradient: [
        (lambda e, reals, b: [gradient(e, a, b)[0] for a in reals], "not a tensor: join them"),
        (accumulated, "adds up from domain to domain"),
        (
            lambda e, reals, b: torch.stack([gradient(e, a, b)[0] / 4 for a in reals]),
            "times too small, and 4 is the number of domains",
        ),
    ],
    checks.check_mean_gradient: [(mean_in_place, "changes its input g_domain in place")],
    checks.check_spectrum: [
        (lambda g: np.fft.rfft2(g.numpy()), "returned a numpy array, not a tensor"),
        (lambda g: torch.fft.rfft2(g.double()), "has the type torch.complex128"),
    ],
    checks.check_consensus: [(lambda G: G.mean(0)[:, :1], "has 1 instead of 3 entries on axis 1")],
    checks.check_resultant_length: [
        (lambda G, eps: G.sum(0).abs() / (G.abs().amax(0) + eps), "must stay in [0, 1]"),
        (lambda G, eps: G.sum(0).abs() / (G.sum(0).abs() + eps), "same length above and below"),
    ],
    checks.check_noise_level: [
        (seeded, "sets the global seed"),
        (lambda K, n, _: level(K, n).mean(), "draws from the global random numbers"),
        (
            lambda K, n, _: level(K, n, torch.Generator().manual_seed(0)).mean(),
            "does not use the generator",
        ),
        (level, "returned 20000 numbers"),
        (lambda K, n, dice: 0.1 * level(K, n, dice).mean(), "for K = 2, expected about 0.7"),
    ],
    checks.check_class_part: [
        (lambda G, R, size: torch.fft.irfft2(G.mul_(R).mean(0), s=size), "its input G in place"),
    ],
    checks.check_domain_part: [
        (lambda G, R, size: G.abs(), "7 instead of 13 entries on axis 4 (columns)")
    ],
    checks.check_own_part: [
        (lambda g, k: g[torch.arange(len(k)), k], "perhaps two indices are swapped"),
    ],
    checks.check_update: [
        (lambda s, g, c, o, a, b, lr: s.sub_(lr * g), "changes its input images in place"),
    ],
    checks.check_make_pair: [
        (lambda *x: pair(*x)[::-1], "the two sets swapped"),
        (lambda *x: pair(*x, ours=False), "distils plain DM twice"),
        (lambda *x: pair(*x, plain=True), "operates on both"),
        (lambda *x: pair(*x, seed=6), "different seeds, 5 and 6"),
        (lambda *x: pair(*x[:3], 0), "uses seed 0 whatever it is asked for"),
        (lambda *x: pair(*x, steps=4), "different steps, 2 and 4: an unfair advantage"),
        (lambda s, n, steps, seed: pair(s, 2, steps, seed), "uses ipc=2 although"),
        (lambda *x: pair(*x, lr=20.0), "different lr, 10.0 and 20.0"),
        (lambda s, *x: pair(checks.tiny_source(1), *x), "distils other images"),
        (lambda *x: pair(*x)[0], "returned one set"),
        (lambda s, n, *_: distill(s, SGS, ipc=n), "surgery=SGS"),
    ],
    checks.check_accuracies: [
        (lambda a, b, n, recipe: evaluate(a, b, seeds=n, recipe=recipe), "the Scores object"),
        (
            lambda a, b, n, recipe: evaluate(a, b, recipe=recipe).values,
            "5 values for 3 networks",
        ),
    ],
    checks.check_paired_interval: [
        (lambda a, b: student_interval(a.mean(1) - b.mean(1)), "returned 2 numbers"),
        (lambda a, b: (0, 1, 2), "the mean difference 0, expected"),
    ],
    checks.check_claim: [
        (lambda *x: claim(*x, by_mean=True), "zero lies inside the interval"),
        (lambda *x: claim(*x, needed=(0, 0)), "fewer than 5 distillation seeds"),
        (lambda *x: claim(*x, needed=(5, 0)), "fewer than 10 networks"),
        (lambda *x: claim(*x, words=("better", "worse")), "better and worse are swapped"),
        (late_claim, "too few runs come first"),
        (lambda *x: "they are equal", "none of the four sentences"),
        (lambda *x: "no difference shows", "did you mean 'no difference shown'?"),
    ],
}


@pytest.mark.parametrize("check", ALL_CHECKS, ids=name_of)
def test_other_mistakes_get_their_own_sentence(check):
    found = set()
    for answer, text in WRONG[check]:
        verdict = check(answer)
        assert not verdict and text in verdict.sentence, f"{text}: {verdict}"
        assert "\n" not in verdict.sentence and verdict.sentence[-1] in ".?", verdict
        found.add(verdict.sentence)
    assert len(found) == len(WRONG[check])


def test_a_verdict_is_shown_as_text_that_wraps():
    verdict = checks.Verdict(False, "f stopped in the line `a < b`.")
    assert repr(verdict) == "Not yet: f stopped in the line `a < b`."
    assert verdict._repr_html_() == "<p>Not yet: f stopped in the line <code>a &lt; b</code>.</p>"


def crashes(*inputs):
    raise RuntimeError("I am new here")


def asks_for_nothing():
    return 1


@pytest.mark.parametrize("check", ALL_CHECKS, ids=name_of)
def test_any_answer_gets_a_sentence(check):
    """Empty, of the wrong kind, crashing, with other arguments, or not a function at all."""
    state = torch.get_rng_state()
    values = (None, ..., "text", [1, 2], 3.5, torch.full((3, 1), torch.nan), {})
    odd = [*(lambda *_, value=value: value for value in values), crashes, asks_for_nothing, 7, None]
    said = [check(answer).sentence for answer in odd]
    assert all(sentence.endswith(".") for sentence in said) and len(set(said)) >= 6, said
    assert not any(check(answer) for answer in odd[:1])
    assert "blank is still empty" in said[0]
    assert "I am new here" in said[7] and "raise RuntimeError" in said[7]
    assert "could not be called as" in said[8]
    assert torch.equal(state, torch.get_rng_state()), "the check moved the global random numbers"


def test_a_seed_is_noticed_whatever_it_was_before():
    state = torch.get_rng_state()
    for seed in (0, 1):
        torch.manual_seed(seed)
        assert "sets the global seed" in checks.check_noise_level(seeded).sentence
        assert torch.initial_seed() == seed
    torch.set_rng_state(state)


# ---------------------------------------------------------------- the notebooks


def outputs(nb) -> list:
    """All outputs, from the top to the bottom."""
    return [out for cell in nb.cells if cell.cell_type == "code" for out in cell.outputs]


def shown(nb) -> tuple[list[str], int]:
    """What the checks said, and how many pictures are drawn."""
    data = [out.get("data", {}) for out in outputs(nb)]
    texts = [found.get("text/plain", "") for found in data]
    said = [text for text in texts if " is right: " in text or "Not yet" in text]
    return said, sum("image/png" in found for found in data)


def run(path, monkeypatch) -> tuple[list[str], int]:
    """The same for all cells run from the top, as somebody who opens the notebook does."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(WORKSHOP)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plt, "show", lambda: None)
    space, said = {"__name__": "exercise"}, []
    plt.close("all")
    with plt.rc_context():
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, path.stem, "exec"), space)
                if "check_" in cell.source and "import" not in cell.source:
                    said.append(repr(space[cell.source.splitlines()[-1]]))
        pictures = len(plt.get_fignums())
    plt.close("all")
    return said, pictures


@by_name
def test_solution_passes_all_checks(name, monkeypatch):
    path = WORKSHOP / "solutions" / f"{name}.ipynb"
    said, pictures = run(path, monkeypatch)
    assert all(" is right: " in text for text in said), said
    assert len(said) == len(checks.EXERCISES[name]) and pictures
    stored = shown(nbformat.read(path, 4))
    assert stored == (said, pictures), "not the outputs of a run: python tools/workshop.py --run"


@by_name
def test_unsolved_notebook_runs_and_names_every_blank(name, monkeypatch):
    said, _ = run(WORKSHOP / f"{name}.ipynb", monkeypatch)
    assert said == [f"Not yet: {name_of(check)} {checks.BLANK}" for check in checks.EXERCISES[name]]


def test_notebooks_equal_their_source(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["workshop.py", "--check"])
    assert tool("workshop").main() == 0


@by_name
def test_form_of_the_notebooks(name):
    paths = WORKSHOP / f"{name}.ipynb", WORKSHOP / "solutions" / f"{name}.ipynb"
    exercise, solution = (nbformat.read(path, 4) for path in paths)
    first = exercise.cells[0].source
    assert first.startswith("# ") and re.search(r"^> \S", first, flags=re.M)
    assert "**You write:**" in first and "**You need:**" in first
    assert 15 <= int(re.search(r"\*\*Time:\*\* (\d+) minutes", first).group(1)) <= 20
    text = "\n".join(cell.source for cell in exercise.cells)
    assert text.count("# your code: ") == len(checks.EXERCISES[name])
    assert "<details>" in text and text.count("<details>") == text.count("</details>")
    assert "# BLANK" not in text and "# END" not in text
    assert not outputs(exercise) and outputs(solution)
    for out in outputs(solution):
        assert out.output_type != "error" and out.get("name") != "stderr"
        printed = out.get("text", "") + out.get("data", {}).get("text/plain", "")
        assert not tool("refresh").MACHINE_PATH.search(printed), printed
    assert not any(cell.get("execution_count") for cell in solution.cells)
    assert len({cell.id for cell in exercise.cells}) == len(exercise.cells)
    assert paths[0].stat().st_size < 60_000 and paths[1].stat().st_size < 600_000
    assert max(map(len, text.splitlines())) <= 130


def test_outputs_stay_down_to_the_first_change(tmp_path, monkeypatch):
    workshop = tool("workshop")
    monkeypatch.setattr(workshop, "ROOT", tmp_path)
    monkeypatch.setattr(workshop, "WORKSHOP", tmp_path)
    source, solution = tmp_path / "source" / "9_small.py", tmp_path / "solutions" / "9_small.ipynb"
    first = '# %% [markdown]\n"""# 9 Small"""\n# %%\nprint(1)\n# %%\nx = 2\n# %%\nprint(x)\n'

    def told(text: str, *options: str) -> tuple[int, list[str]]:
        source.write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["workshop.py", *options])
        code = workshop.main()
        return code, ["".join(out["text"]) for out in outputs(nbformat.read(solution, 4))]

    source.parent.mkdir()
    assert told(first) == (0, [])
    nb = nbformat.read(solution, 4)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for cell, text in zip(code, ("1\n", None, "2\n")):
        cell.outputs = [nbformat.v4.new_output("stream", text=text)] if text else []
    nbformat.write(nb, solution)
    assert told(first, "--check") == (0, ["1\n", "2\n"])
    assert told(first) == (0, ["1\n", "2\n"])
    assert told(first.replace("Small", "Text may change")) == (0, ["1\n", "2\n"])
    changed = first.replace("x = 2", "x = 3")
    assert told(changed, "--check") == (1, ["1\n", "2\n"])
    assert told(changed) == (0, ["1\n"])  # the 2 below was computed from the old x
    solution.with_name("8_gone.ipynb").write_text(solution.read_text())
    assert told(changed, "--check")[0] == 1


def test_a_source_without_an_end_is_refused(tmp_path):
    workshop = tool("workshop")
    bad = tmp_path / "9_bad.py"
    bad.write_text("# %%\ndef f():\n    # BLANK: write\n    return 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="BLANK without END"):
        workshop.notebook(bad, solution=False)


# ---------------------------------------------------------------- the pages


def test_plans_add_up_to_90_and_120_minutes():
    text = (WORKSHOP / "plan.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+)-(\d+) \| (\d+) \| (.*)", text, flags=re.M)
    rows = [(*map(int, row[:3]), row[3]) for row in found]
    second = [n for n, row in enumerate(rows) if row[0] == 0][1]
    for plan, whole in ((rows[:second], 90), (rows[second:], 120)):
        assert [row[0] for row in plan] == [0, *(row[1] for row in plan[:-1])]
        assert all(end - start == minutes for start, end, minutes, _ in plan)
        assert plan[-1][1] == whole
        for name in NAMES:
            source = (WORKSHOP / "source" / f"{name}.py").read_text(encoding="utf-8")
            needed = int(re.search(r"\*\*Time:\*\* (\d+)", source).group(1))
            (given,) = (minutes for *_, minutes, what in plan if name in what)
            assert given == needed if whole == 90 else given >= needed, name


def test_every_blank_has_two_levels_of_hints():
    for path in (WORKSHOP / "source").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for part in re.split(r"^## Blank ", text, flags=re.M)[1:]:
            found = re.findall(r"<summary>(.+?)</summary>", part)
            assert found[:2] == ["Hint", "More"], f"{path.name}, blank {part[:30]!r}: {found}"


def test_quiz_has_ten_questions_with_folded_answers():
    text = (WORKSHOP / "quiz.md").read_text(encoding="utf-8")
    questions = re.split(r"^## \d+\. ", text, flags=re.M)[1:]
    assert len(questions) == 10
    for mark in ("<details><summary>Answer</summary>", "</details>"):
        assert [question.count(mark) for question in questions] == [1] * 10


def test_links_of_the_pages_lead_somewhere():
    for page in (*WORKSHOP.glob("*.md"), *(WORKSHOP / "source").glob("*.py")):
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8")):
            assert (WORKSHOP / target).exists(), f"{page.name}: {target}"


def test_checks_say_what_they_check():
    for check in ALL_CHECKS:
        assert inspect.getdoc(check).startswith("Exercise ")
