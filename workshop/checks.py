"""Checks for the exercises: each compares an answer with the package on small random inputs and says what is wrong.

A check never raises because of an answer. It returns a Verdict: true or false, shown as one sentence. What typical
mistakes compute, and what is said about them, stands in mistakes.toml.
"""

from __future__ import annotations

import difflib
import html
import random
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from scipy.stats import t as student
from torch import Tensor, nn

from dgdd_nb.coresets import random as random_coreset
from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distill import fingerprint
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.domain_gradients import DomainGradients, domain_gradients
from dgdd_nb.evaluate import NEEDED, Scores, evaluate, student_interval
from dgdd_nb.files import read_json
from dgdd_nb.fourier import spectrum
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet
from dgdd_nb.resultant import consensus, null_level, resultant_length
from dgdd_nb.results import read_results
from dgdd_nb.surgery import SGS, decompose, own_gradient
from dgdd_nb.train import Recipe

HERE = Path(__file__).resolve().parent
MISTAKES = read_json(HERE / "mistakes.toml")
Inputs = dict[str, Any]  # name -> value, in the order of the arguments
Trials = Iterator[tuple[Inputs, Any]]  # inputs, and what the package returns for them

# ---------------------------------------------------------------- what every check does
# A "problem" is a sentence without the name of the answer in front; "" where nothing is wrong.


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the sentence that says so or says what is wrong."""

    right: bool
    sentence: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return self.sentence if self.right else f"Not yet: {self.sentence}"

    def _repr_html_(self) -> str:  # notebooks break plain text in the middle of words
        return "<p>" + re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(repr(self))) + "</p>"


def checking(what: str, followed: str = "", problem: Callable | None = None, **options: Any):
    """Make a check of a generator of trials; `problem(value, space, **options)` says what is wrong with an output."""
    options = options if problem else {"followed": bool(followed), **options}

    def decorate(trials: Callable[[], Trials]) -> Callable[[Callable], Verdict]:
        name = trials.__name__.removeprefix("check_")

        @wraps(trials)
        def check(answer: Callable) -> Verdict:
            for inputs, right in trials():
                value, found = call(name, answer, inputs, followed)
                space = named(name, inputs, right)
                found = found or (problem or tensor_problem)(name, value, space, **options)
                if found.startswith("is one number, but not the right one"):
                    found = scale_problem(name, answer, trials, followed, **options) or found
                if found:
                    return Verdict(False, f"{name} {found}")
            return Verdict(True, f"{name} is right: {what}.")

        check.trials = trials
        return check

    return decorate


def named(name: str, inputs: Inputs, right: Any) -> dict[str, Any]:
    """The names that the expressions in mistakes.toml may use."""
    space = {**globals(), **inputs, "right": right}
    for key, text in MISTAKES.get(name, {}).get("let", {}).items():
        space[key] = computed(text, space)
    return space


def computed(text: str, space: dict[str, Any]) -> Any:
    """The value of an expression of this folder's own, never of a learner's."""
    return eval(text, space)  # noqa: S307


def mistake(
    name: str, space: dict[str, Any], alike: Callable[[Any], bool], table: str = "said"
) -> str:
    """The sentence of the first typical mistake whose output is alike."""
    for text, sentence in MISTAKES[name][table].items():
        if alike(computed(text, space)):
            return sentence.format_map(space)
    return ""


BLANK = "returned None: its blank is still empty, or the `return` is missing."
BACKWARD = {  # whether the answer returned None -> the sentence
    True: "returned None: .backward() wrote the gradient into copy.grad, and others into the weights of {0}, "
    "so use torch.autograd.grad(loss, copy)[0] instead.",
    False: "leaves gradients in the weights of {0}, as .backward() does: ask for that of the copy alone, "
    "with torch.autograd.grad(loss, copy)[0].",
}
OWN_SEED = 20_977_141_205_118  # nobody else's


def raised(name: str, answer: Callable, error: Exception, inputs: Inputs) -> str:
    """The problem with an answer that stopped: the message, its line, and a hint."""
    said = (str(error).strip().splitlines() or [""])[0][:160].rstrip(".")
    said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not own:
        return f"could not be called as {name}({', '.join(inputs)}), it said {said}."
    hint = next((f" ({hint})" for key, hint in MISTAKES["hints"].items() if key in said), "")
    line = f" in the line `{own[-1].line}`" if own[-1].line else ""
    return f"stopped with {said}{line}{hint}."


def copied(value: Any) -> Any:
    """A copy that an answer may spoil; networks and data sets are handed over as they are."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    return [copied(v) for v in value] if isinstance(value, list) else value


def same(a: Any, b: Any) -> bool:
    """Are an input and its copy still alike?"""
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return torch.equal(a, b)  # False where the shapes differ
    return not isinstance(a, np.ndarray) or np.array_equal(a, b)


def dice() -> tuple:
    """The state of all global random numbers."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def unmoved(a: tuple, b: tuple) -> bool:
    """Are two states of `dice()` the same?"""
    return torch.equal(a[0], b[0]) and str(a[1]) == str(b[1]) and a[2] == b[2]


def call(name: str, answer: Any, inputs: Inputs, followed: str) -> tuple[Any, str]:
    """What the answer returns for copies of the inputs, and what is wrong with how it did it."""
    if not callable(answer):
        return None, f"is not a function but {type(answer).__name__}: run its cell again."
    given = {key: copied(value) for key, value in inputs.items()}
    if followed:
        given[followed].requires_grad_()
    before = dice()
    torch.manual_seed(OWN_SEED)  # so that any seed that the answer sets is another one
    state, value, problem = dice(), None, ""
    try:
        value = answer(*given.values())
    except Exception as error:  # whatever a learner writes
        problem = raised(name, answer, error, inputs)
    moved, reseeded = not unmoved(state, dice()), torch.initial_seed() != OWN_SEED
    torch.set_rng_state(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    random.setstate(before[2])
    spoilt = [
        key
        for key, old in inputs.items()
        if isinstance(old, nn.Module) and any(p.grad is not None for p in old.parameters())
    ]
    for key in spoilt:
        inputs[key].zero_grad(set_to_none=True)
    if problem:
        return None, problem
    if value is Ellipsis or value is None:
        return None, BACKWARD[True].format(*spoilt) if spoilt else BLANK
    if reseeded:
        return value, (
            "sets the global seed, which changes the numbers of everybody else: "
            "draw from the generator that it is given."
        )
    if moved:
        return value, (
            "draws from the global random numbers: pass generator=generator to the drawing function."
        )
    if spoilt:
        return value, BACKWARD[False].format(*spoilt)
    for key, old in inputs.items():
        if isinstance(old, Tensor) and given[key].requires_grad and key != followed:
            return value, (
                f"switches on requires_grad of its input {key}, which stays on after it: "
                f"work on copy = {key}.detach().clone().requires_grad_()."
            )
        if not same(given[key], old):
            return value, (
                f"changes its input {key} in place: write a = a - b rather than a -= b, "
                "or work on a .clone()."
            )
    return value, ""


def close(a: Any, b: Tensor) -> bool:
    """Equal up to rounding, with the same shape and kind of number; NaN equals NaN."""
    if not isinstance(a, Tensor) or a.shape != b.shape or a.is_complex() != b.is_complex():
        return False
    wide = torch.complex128 if b.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    size = b.abs()[b.abs().isfinite()]
    tiny = 1e-5 * float(size.max()) if size.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=tiny, equal_nan=True)


def kind(value: Any) -> str:
    """The kind of a value, with its article."""
    noun = type(value).__name__
    known = {"ndarray": "a numpy array", "str": "a text"}
    return known.get(noun, f"a{'n' if noun[:1].lower() in 'aeiou' else ''} {noun}")


def kind_problem(value: Any, followed: bool) -> str:
    """What came instead of a tensor."""
    if isinstance(value, Tensor):
        return ""
    if isinstance(value, (list, tuple)):
        return (
            f"returned {kind(value)} with one entry: take its entry [0], "
            "as torch.autograd.grad always returns a tuple."
            if len(value) == 1
            else f"returned {kind(value)} of {len(value)} entries, not a tensor: "
            "join them along a new first axis with torch.stack."
        )
    if isinstance(value, (int, float, complex)) and followed:
        return (
            "returned a plain number: .item() or float() cut it off from the images, "
            "so return the tensor."
        )
    stay = ": stay with torch" if isinstance(value, np.ndarray) else ""
    return f"returned {kind(value)}, not a tensor{stay}."


def shape_problem(value: Tensor, right: Tensor, axes: Sequence[str]) -> str:
    """Which axis is wrong."""
    got, wanted = tuple(value.shape), tuple(right.shape)
    axes = axes[-len(wanted) :]
    meaning = f"{wanted} = ({', '.join(axes)})"
    if got == wanted:
        return ""
    if not wanted:
        return f"has the shape {got}, expected one number: no axis is left, not even the images."
    if len(got) != len(wanted):
        return f"has {len(got)} axes, shape {got}; expected {len(wanted)}, {meaning}."
    if sorted(got) == sorted(wanted):
        return f"has its axes in another order, {got}; expected {meaning}."
    i = next(i for i in range(len(got)) if got[i] != wanted[i])
    return (
        f"has {got[i]} instead of {wanted[i]} entries on axis {i} ({axes[i]}): "
        f"shape {got}, expected {wanted}."
    )


def type_problem(value: Tensor, right: Tensor, followed: bool) -> str:
    """A wrong kind of number, or none that a gradient can flow back from."""
    if right.is_complex() and not value.is_complex():
        return f"is real ({value.dtype}), expected complex: .abs() or .real loses the phases."
    if value.is_complex() and not right.is_complex():
        return "is complex, expected real numbers: a length is .abs(), an image is irfft2."
    if value.dtype != right.dtype:
        return f"has the type {value.dtype}, expected {right.dtype}, the precision of the input."
    if followed and not value.requires_grad:
        return (
            "has the right value but no graph: .detach() or no_grad() cut it off from "
            "the synthetic features, so that no gradient can flow back."
        )
    return ""


def value_problem(value: Tensor, right: Tensor, factors: dict[str, float]) -> str:
    """Wrong values that are no known mistake: infinite, a factor, or where they differ."""
    value, right = value.detach(), right.detach()
    if not value.isfinite().all():
        return "holds NaN or infinity: look for a division by zero."
    if not right.shape:  # any two numbers have a ratio: it says nothing
        return (
            "is one number, but not the right one: "
            f"it is {value.item():.3g}, expected {right.item():.3g}."
        )
    ratio = float((value * right.conj()).real.sum() / right.abs().square().sum())
    if ratio and close(value, ratio * right):
        if abs(ratio + 1) < 1e-3:
            return "has the wrong sign everywhere."
        for what, factor in factors.items():
            if abs(ratio / factor - 1) < 1e-3:
                return (
                    f"is {factor:g} times too large, and {factor:g} is {what}: "
                    "a mean is needed where there is a sum."
                )
            if abs(ratio * factor - 1) < 1e-3:
                return (
                    f"is {factor:g} times too small, and {factor:g} is {what}: "
                    "it was divided once too often."
                )
        if 0 < ratio < 1:
            return f"is {1 / ratio:.3g} times too small, everywhere."
        return f"is {ratio:.3g} times what it should be, everywhere."
    at = int((value - right).abs().argmax())
    spot = [int(i) for i in np.unravel_index(at, tuple(right.shape))]
    a, b = (x.flatten()[at].item() for x in (value, right))
    return f"has the right shape but other values: at {spot} it is {a:.3g}, expected {b:.3g}."


def tensor_problem(
    name: str,
    value: Any,
    space: dict[str, Any],
    axes: Sequence[str] = (),  # what each axis of the output counts
    factors: dict[str, str] | None = None,  # what an answer may be off by -> its expression
    rule: Callable[[Tensor], str] | None = None,  # what is wrong with values out of range
    followed: bool = False,  # whether the output must know of an input that requires a gradient
) -> str:
    """What is wrong with an output that should be a tensor."""
    right = space["right"]
    if problem := kind_problem(value, followed):
        return problem
    if close(value, right) and value.dtype == right.dtype:
        return type_problem(value, right, followed)
    factors = {what: float(computed(text, space)) for what, text in (factors or {}).items()}
    return (
        mistake(name, space, lambda wrong: close(value, wrong))
        or shape_problem(value, right, axes)
        or type_problem(value, right, followed)
        or (rule(value) if rule and value.isfinite().all() else "")
        or value_problem(value, right, factors)
    )


def scale_problem(
    name: str, answer: Any, trials: Callable[[], Trials], input: str, factors: dict, **_: Any
) -> str:
    """The factor by which an answer of one number is off on all inputs alike."""
    ratios, spaces = [], []
    for inputs, right in trials():
        value, problem = call(name, answer, inputs, input)
        if problem or not isinstance(value, Tensor) or value.shape:
            return ""
        ratios.append(float(value.detach() / right))
        spaces.append(named(name, inputs, right))
    if np.allclose(ratios, -1, rtol=1e-3):
        return "has the wrong sign."
    if np.allclose(ratios, ratios[0], rtol=1e-3, atol=0):
        return f"is {ratios[0]:.3g} times what it should be, on all inputs tried."
    for what, text in factors.items():
        factor = np.array([computed(text, space) for space in spaces], dtype=float)
        if np.allclose(ratios / factor, 1, rtol=1e-3):
            return (
                f"is too large by the factor {factor[0]:g}, {what}: "
                "a mean is needed where there is a sum."
            )
        if np.allclose(ratios * factor, 1, rtol=1e-3):
            return (
                f"is too small by the factor {factor[0]:g}, {what}: it was divided once too often."
            )
    return ""


# ---------------------------------------------------------------- 1 domain gradient

IMAGES = ("images", "channels", "rows", "columns")
SHAPES = ((4, 5, 3, 8, 13), (3, 2, 3, 6, 8))  # of domain gradients, (K, N, 3, H, W)
DOMAINS = "the number of domains"


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers that depend on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alike(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise of several domains that agree in part."""
    own = noise(*shape, seed=seed, dtype=dtype)
    return own + noise(*shape[1:], seed=seed + 50, dtype=dtype)


@checking(
    "shape, value and graph agree",
    followed="synthetic",
    factors={"the number of feature dimensions": "real.shape[1]"},
)
def check_dm_loss() -> Trials:
    """Exercise 1: the DM loss (3) of real and synthetic features."""
    for seed, (n, m, D) in enumerate([(5, 3, 7), (4, 6, 2), (2, 4, 5)]):
        a, b = noise(n, D, seed=seed), noise(m, D, seed=seed + 10)
        yield {"real": a, "synthetic": b}, DM()({"embed": a}, {"embed": b})


def small_batch(K: int = 4, n: int = 6, N: int = 5, size: int = 16) -> tuple:
    """A small encoder, real images of K domains, synthetic images, all of one class; and the gradients (6)."""
    encoder = ConvNet(classes=2, size=size, width=7, seed=0)
    reals = [noise(n, 3, size, size, seed=k) + 0.7 * k for k in range(K)]
    images, zeros = noise(N, 3, size, size, seed=99), torch.zeros(K * n, dtype=torch.long)
    real = Batch(torch.cat(reals), zeros, torch.arange(K).repeat_interleave(n), K, 1)
    synthetic = Batch(images, zeros[:N], zeros[:N], K, 1)
    return encoder, reals, images, domain_gradients(encoder, DM(), real, synthetic).g_domain


def gradient_of(
    loss: Callable, real: Tensor, images: Tensor, features: Callable, of_real: bool = False
) -> Tensor:
    """Gradient of a loss of features with respect to the images (or the real ones)."""
    a, b = (x.detach().clone().requires_grad_() for x in (real, images))
    return torch.autograd.grad(loss(features(a), features(b)), a if of_real else b)[0]


def dm(a: Tensor, b: Tensor) -> Tensor:
    """(3) with plain tensors."""
    return (a.mean(0) - b.mean(0)).square().sum()


@checking(
    "shape, sign and values agree",
    axes=IMAGES,
    factors={
        "the number of feature dimensions": "embed(images).shape[1]",
        "the number of synthetic images": "len(images)",
    },
)
def check_image_gradient() -> Trials:
    """Exercise 1: the gradient of the loss in image space, for one set of real images."""
    encoder, reals, images, g_domain = small_batch()
    yield {"encoder": encoder, "real": reals[2], "images": images}, g_domain[2]


@checking(
    "order of the domains, shape and values agree",
    axes=("domains", *IMAGES),
    factors={DOMAINS: "len(real_by_domain)"},
)
def check_domain_gradient() -> Trials:
    """Exercise 1: one gradient per domain (6)."""
    encoder, reals, images, g_domain = small_batch()
    yield {"encoder": encoder, "real_by_domain": reals, "images": images}, g_domain


@checking("shape and values agree", axes=IMAGES, factors={DOMAINS: "K"})
def check_mean_gradient() -> Trials:
    """Exercise 1: the DM gradient as the mean of the domain gradients."""
    for seed, shape in enumerate(SHAPES):
        g = noise(*shape, seed=seed)
        yield {"g_domain": g}, g.mean(0)


# ---------------------------------------------------------------- 2 FFT and resultant length

BINS = ("images", "channels", "rows of frequencies", "columns of the half spectrum")


@checking(
    "axes, norm and values agree",
    axes=("domains", *BINS),
    factors={
        "the number of pixels": "g.shape[-1] * g.shape[-2]",
        "the width of the images": "g.shape[-1]",
    },
)
def check_spectrum() -> Trials:
    """Exercise 2: the half spectrum (7)."""
    for seed, shape in enumerate([(4, 5, 3, 8, 13), (2, 3, 6, 8)]):
        g = noise(*shape, seed=seed)
        yield {"g": g}, spectrum(g)


@checking("shape, phase and values agree", axes=BINS, factors={DOMAINS: "K"})
def check_consensus() -> Trials:
    """Exercise 2: the consensus (8)."""
    for seed, shape in enumerate([(4, 5, 3, 8, 7), (2, 3, 3, 6, 5)]):
        G = alike(*shape, seed=seed, dtype=torch.complex64)
        yield {"G": G}, consensus(G)


def beyond(R: Tensor) -> str:
    """How R leaves its range."""
    low, high = float(R.min()), float(R.max())
    if high <= 1 + 1e-4 and low >= -1e-4:
        return ""
    return (
        f"runs from {low:.2f} to {high:.2f}, but must stay in [0, 1]: above the length of "
        "the sum of the arrows, below the sum of their lengths."
    )


@checking("shape, range and values agree", axes=BINS, rule=beyond)
def check_resultant_length() -> Trials:
    """Exercise 2: the resultant length (9)."""
    G = alike(4, 5, 3, 8, 7, seed=3, dtype=torch.complex64)
    empty = G.clone()
    empty[:, :, :, 0, 0] = 0
    for arrows, eps in ((G, 1e-8), (empty, 1e-8), (G, 2.0)):
        yield {"G": arrows, "eps": eps}, resultant_length(arrows, eps)


def level_problem(name: str, value: Any, space: dict[str, Any]) -> str:
    """What is wrong with a noise level: no number, another generator, or the level of something else."""
    if isinstance(value, Tensor) and value.numel() > 1:
        return f"returned {value.numel()} numbers: R of every draw; average them with .mean()."
    if not isinstance(value, (Tensor, float, int, np.floating)):
        return f"returned {kind(value)}, not a number."
    if isinstance(value, Tensor) and value.is_complex():
        return "is complex, expected the mean of lengths, a real number."
    fresh = torch.Generator().manual_seed(space["K"])
    if torch.equal(fresh.get_state(), space["generator"].get_state()):
        return (
            "does not use the generator that it is given: pass generator=generator to torch.randn."
        )
    off = {"right": abs(float(value) - space["right"])}
    off |= {text: abs(float(value) - computed(text, space)) for text in MISTAKES[name]["said"]}
    nearest = min(off, key=off.get)
    if off[nearest] < 0.012:
        return MISTAKES[name]["said"].get(nearest, "")
    return f"is {float(value):.3f} for K = {space['K']}, expected about {space['right']:.2f}."


@checking("range and values agree, up to the error of the draws", problem=level_problem)
def check_noise_level() -> Trials:
    """Exercise 2: what R reads for arrows that have nothing in common."""
    samples = 20_000
    for K in (2, 4):
        inputs = {"K": K, "samples": samples, "generator": torch.Generator().manual_seed(K)}
        yield inputs, null_level(K, samples=samples).mean


# ---------------------------------------------------------------- 3 the update rule


def spectra() -> Iterator[tuple[Inputs, Any]]:
    """Spectra of domain gradients, their R and the size of an image; and the parts of the package."""
    for seed, shape in enumerate(SHAPES):
        g = alike(*shape, seed=seed)
        G = spectrum(g)
        yield {"G": G, "R": resultant_length(G), "size": tuple(shape[-2:])}, decompose(g)


@checking("shape, weight and values agree", axes=IMAGES, factors={DOMAINS: "K"})
def check_class_part() -> Trials:
    """Exercise 3: g_cls, the first line of (10)."""
    for inputs, parts in spectra():
        yield inputs, parts.g_cls


@checking("shape, reading (a) and values agree", axes=("domains", *IMAGES))
def check_domain_part() -> Trials:
    """Exercise 3: g_dom, the second line of (10), reading (a)."""
    for inputs, parts in spectra():
        yield inputs, parts.g_dom


@checking("shape, domain of each image and values agree", axes=IMAGES)
def check_own_part() -> Trials:
    """Exercise 3: for each image the part of its own domain."""
    for seed, (K, domain) in enumerate([(4, [2, 0, 3, 3, 1]), (3, [1, 2])]):
        g, domain = noise(K, len(domain), 3, 8, 13, seed=seed), torch.tensor(domain)
        yield {"g_dom": g, "domain": domain}, own_gradient(g, domain)


@checking("sign, weights and values agree", axes=IMAGES)
def check_update() -> Trials:
    """Exercise 3: the update (11)."""
    g, images = alike(4, 5, 3, 8, 13, seed=1), noise(5, 3, 8, 13, seed=9)
    domain, parts = torch.tensor([2, 0, 3, 3, 1]), decompose(g)
    given = {"g_dm": g.mean(0), "g_cls": parts.g_cls, "g_own": own_gradient(parts.g_dom, domain)}
    weights = {"alpha": 0.7, "beta": 0.2}
    step = SGS(**weights)(DomainGradients(g, g.mean(0)), domain * 0, domain)
    yield {"images": images, **given, **weights, "lr": 3.0}, images - 3.0 * step


# ---------------------------------------------------------------- 4 distil and judge fairly


def tiny_source(seed: int = 0, n: int = 72) -> MultiDomain:
    """Random pictures of two classes in three domains, 8 x 8 pixels."""
    dice = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=dice, dtype=torch.uint8)
    i = torch.arange(n)
    return MultiDomain.from_arrays(
        x, i % 2, i % 3, classes=("a", "b"), domain_names=("r", "s", "t")
    )


SURGERY = {  # which of the two sets were operated on -> what is wrong
    (True, False): "has the two sets swapped: plain DM first, DM + SGS second.",
    (False, False): "distils plain DM twice: the second set needs surgery=SGS().",
    (True, True): "operates on both sets: the first one is plain DM, without surgery.",
}


def pair_problem(name: str, value: Any, space: dict[str, Any]) -> str:
    """What makes the comparison unfair."""
    if isinstance(value, DistilledSet):
        return "returned one set: return both, `return plain, ours`."
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(v, DistilledSet) for v in value)
    ):
        return "must return two distilled sets, `return plain, ours`, each made by distill(...)."
    one, two = ({**v.recipe, "ipc": max(v.recipe["ipc"])} for v in value)
    operated = tuple(r.get("surgery") is not None for r in (one, two))
    if operated in SURGERY:
        return SURGERY[operated]
    if any(r["data"] != fingerprint(space["source"]) for r in (one, two)):
        return "distils other images than the source that it is given: use the argument source."
    if one["seed"] != two["seed"]:
        return (
            f"gives the two sets different seeds, {one['seed']} and {two['seed']}: the pair "
            "must share start images and encoders."
        )
    if one["seed"] != space["seed"]:
        return f"uses seed {one['seed']} whatever it is asked for: pass seed=seed."
    for key in ("ipc", "steps"):
        if one[key] != two[key]:
            return f"gives the two sets different {key}, {one[key]} and {two[key]}: an unfair advantage."
        if one[key] != space[key]:
            return f"uses {key}={one[key]} although it is asked for {space[key]}: pass {key}={key}."
    for key in one:
        if key in two and key != "surgery" and one[key] != two[key]:
            return (
                f"gives the two sets different {key}, {one[key]} and {two[key]}: "
                "the surgery alone may differ."
            )
    return ""


@checking("the two sets differ in the surgery alone", problem=pair_problem)
def check_make_pair() -> Trials:
    """Exercise 4: two distilled sets that differ in nothing but the surgery."""
    for ipc, steps, seed in [(3, 2, 5), (4, 1, 8)]:
        yield {"source": tiny_source(), "ipc": ipc, "steps": steps, "seed": seed}, None


def accuracies_problem(name: str, value: Any, space: dict[str, Any]) -> str:
    """What is wrong with the accuracies of several networks."""
    right, networks = space["right"], space["networks"]
    if isinstance(value, Scores):
        return "returned the Scores object: return its .values, one accuracy per network."
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return f"returned {kind(value)}, expected one number per network."

    def alike(other: Any) -> bool:
        return array.shape == np.shape(other) and np.allclose(array, other)

    if alike(right):
        return ""
    if found := mistake(name, space, alike):
        return found
    if array.size != networks:
        return (
            f"returned {array.size} value{'s' * (array.size != 1)} for {networks} networks: "
            "pass seeds=networks to evaluate."
        )
    if array.shape != right.shape:
        return f"has the shape {array.shape}, expected {right.shape}: one number per network."
    return mistake(name, space, alike, "trained") or (
        f"has other values than networks 0 to {networks - 1} reach: pass "
        "seeds=networks and recipe=recipe to evaluate, and change nothing else."
    )


@checking("number of networks and values agree", problem=accuracies_problem)
def check_accuracies() -> Trials:
    """Exercise 4: the accuracy of each of several networks."""
    small, target = random_coreset(tiny_source(), 6), tiny_source(seed=1, n=240)
    recipe = Recipe("check", epochs=3, lr=0.05, batch=12)
    inputs = {"distilled": small, "target": target, "networks": 3, "recipe": recipe}
    yield inputs, evaluate(small, target, seeds=3, recipe=recipe).values


def interval_problem(name: str, value: Any, space: dict[str, Any]) -> str:
    """Which other interval this is."""
    mean, low, high = space["right"]
    try:
        array = np.asarray([float(v) for v in value])
    except (TypeError, ValueError):
        return f"must return three numbers, `return mean, low, high`, not {kind(value)}."
    if array.shape != (3,):
        return f"returned {array.size} numbers: return three, `return mean, low, high`."

    def alike(other: Any) -> bool:
        return np.allclose(array, other, rtol=1e-6, atol=1e-9, equal_nan=True)

    if alike(space["right"]):
        return ""
    if found := mistake(name, space, alike):
        return found
    if not np.isclose(array[0], mean):
        return f"has the mean difference {array[0]:.3g}, expected {mean:.3g}."
    return (
        f"has the right mean, but the interval {array[1]:.2f} to {array[2]:.2f}; expected "
        f"{low:.2f} to {high:.2f}, Student's t over the {space['S']} differences."
    )


@checking("pairing, width and sign agree", problem=interval_problem)
def check_paired_interval() -> Trials:
    """Exercise 4: mean and 95 % interval of the paired difference."""
    for seed, (S, n) in enumerate([(5, 7), (4, 3)]):
        dice = np.random.default_rng(seed)
        shared = 40 + 4 * dice.standard_normal((S, 1))
        plain = shared + 2 * dice.standard_normal((S, n))
        ours = shared + 0.8 + 2 * dice.standard_normal((S, n)) + 0.7 * dice.standard_normal((S, 1))
        d = ours.mean(1) - plain.mean(1)
        yield {"ours": ours, "plain": plain}, [d.mean(), *student_interval(d)]


CLAIMS = (
    "not enough seeds to claim a difference",
    "no difference shown",
    "SGS is better",
    "SGS is worse",
)
S, N = NEEDED
CASES = (  # low, high, distillation seeds, networks, claim, and what a wrong answer has overlooked
    (-2.3, 1.7, S, N, 1, "the runs are enough and zero lies inside the interval"),
    (-0.2, 3.9, S, N, 1, "zero lies inside the interval, even if only just"),
    (0.4, 2.9, S, N, 2, "the whole interval lies above zero, and the runs are enough"),
    (-4.0, -0.6, S, N, 3, "the whole interval lies below zero, and the runs are enough"),
    (0.4, 2.9, S - 1, N, 0, f"fewer than {S} distillation seeds are no basis for a claim"),
    (0.4, 2.9, S, N - 1, 0, f"fewer than {N} networks per set are no basis for a claim"),
    (-2.3, 1.7, 3, 3, 0, "too few runs come first, whatever the interval"),
    (1.0, 2.0, 2 * S, 2 * N, 2, "more runs than needed are enough, too"),
)


def claim_problem(name: str, value: Any, space: dict[str, Any]) -> str:
    """Why the numbers do not allow this sentence."""
    right, why = space["right"]
    if not isinstance(value, str):
        return f"returned {kind(value)}, not one of the four sentences."
    if value not in CLAIMS:
        near = difflib.get_close_matches(value, CLAIMS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(map(repr, CLAIMS))}."
        return f"returned {value!r}, which is none of the four sentences: {hint}"
    if value == right:
        return ""
    swapped = " (better and worse are swapped)" if {value, right} == set(CLAIMS[2:]) else ""
    return (
        f"says {value!r} for an interval of {space['low']:+} to {space['high']:+} from "
        f"{space['seeds']} seeds x {space['networks']} networks, but {why}{swapped}."
    )


@checking(f"all {len(CASES)} cases agree", problem=claim_problem)
def check_claim() -> Trials:
    """Exercise 4: the sentence that the numbers allow."""
    for low, high, seeds, networks, number, why in CASES:
        inputs = {"low": low, "high": high, "seeds": seeds, "networks": networks}
        yield inputs, (CLAIMS[number], why)


def stored_study() -> DataFrame | None:
    """Scores on street of the study that is stored in the repository; None without the repository."""
    path = HERE.parent / "benchmarks" / "results" / "main_mini.jsonl"
    if not path.exists():
        return None
    rows = read_results(path)
    return rows[~rows["seen"] & (rows["target"] == "street")]


EXERCISES = {
    "1_domain_gradient": (
        check_dm_loss,
        check_image_gradient,
        check_domain_gradient,
        check_mean_gradient,
    ),
    "2_fft_and_resultant_length": (
        check_spectrum,
        check_consensus,
        check_resultant_length,
        check_noise_level,
    ),
    "3_update_rule": (check_class_part, check_domain_part, check_own_part, check_update),
    "4_distil_and_judge_fairly": (
        check_make_pair,
        check_accuracies,
        check_paired_interval,
        check_claim,
    ),
}
