"""Checks for the exercises: each compares an answer with the package on small random inputs and says what is wrong.

A check never raises because of an answer. It returns a Verdict: true or false, shown as one sentence.
"""

from __future__ import annotations

import difflib
import html
import random
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor, nn

from dgdd_nb.coresets import random as random_coreset
from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distill import fingerprint
from dgdd_nb.distilled import DistilledSet
from dgdd_nb.domain_gradients import DomainGradients, domain_gradients
from dgdd_nb.evaluate import NEEDED, Scores, evaluate, student_interval
from dgdd_nb.fourier import spectrum
from dgdd_nb.matching import DM
from dgdd_nb.networks import ConvNet
from dgdd_nb.resultant import consensus, null_level, resultant_length
from dgdd_nb.results import read_results
from dgdd_nb.surgery import SGS, decompose, own_gradient
from dgdd_nb.train import Recipe

# ---------------------------------------------------------------- what every check does


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


@dataclass(frozen=True)
class Trial:
    """One set of inputs, the right output, and outputs of typical mistakes with their sentences."""

    inputs: dict[str, Any]  # name -> value, in the order of the arguments
    right: Tensor
    axes: tuple[str, ...]  # what each axis of the right output counts
    mistakes: Sequence[
        tuple[str, Callable[[], Tensor]]
    ] = ()  # "name ..." is put before the sentence
    factors: dict[str, float] = field(default_factory=dict)  # numbers an answer may be off by
    rule: Callable[[Tensor], str] | None = None  # '' or what is wrong with these values
    followed: str = ""  # an input that requires a gradient; the output must then know of it


HINTS = (
    ("NoneType", "something there is None, perhaps a blank above that is still empty"),
    ("is not defined", "use the names between the brackets of the def line"),
    (
        "not have been used in the graph",
        "the loss must be made from the very tensor that you "
        "differentiate by, so copy first and embed the copy",
    ),
    (
        "does not require grad",
        "torch must follow the images, so work on a copy made by "
        "images.detach().clone().requires_grad_()",
    ),
    ("scalar outputs", "a loss is one number, so sum over the feature dimensions"),
    ("graph a second time", "make the loss anew for every domain"),
    ("view of a leaf", "do not change the images in place"),
    ("leaf Variable", "do not change the images in place"),
    ("out of bounds", "an index is larger than its axis is long; perhaps two indices are swapped"),
    ("must match the size", "the two sides have different shapes; print them"),
    ("same shape", "the two sides have different shapes; print them"),
)


def blank(name: str) -> str:
    """The sentence for a blank that nobody has filled."""
    return f"{name} returned None: its blank is still empty, or the `return` is missing."


def raised(name: str, answer: Callable, error: Exception, inputs: Sequence[str]) -> str:
    """One sentence about an exception: its message, the line of the answer, and a hint."""
    said = (str(error).strip().splitlines() or [""])[0][:160].rstrip(".")
    said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not own:
        return f"{name} could not be called as {name}({', '.join(inputs)}), it said {said}."
    hint = next((f" ({hint})" for key, hint in HINTS if key in said), "")
    line = f" in the line `{own[-1].line}`" if own[-1].line else ""
    return f"{name} stopped with {said}{line}{hint}."


def copied(value: Any) -> Any:
    """A copy that an answer may spoil; networks and data sets are handed over as they are."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    return [copied(v) for v in value] if isinstance(value, list) else value


def same(a: Any, b: Any) -> bool:
    """Are an input and its copy still alike?"""
    if isinstance(a, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else True


def dice() -> tuple:
    """The state of all global random numbers."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def throw_back(state: tuple) -> None:
    """Put the global random numbers back."""
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    random.setstate(state[2])


OWN_SEED = 20_977_141_205_118  # nobody else's


def call(name: str, answer: Any, inputs: dict[str, Any], followed: str = "") -> tuple[Any, str]:
    """What the answer returns for copies of the inputs, and '' or what is wrong with how it did it."""
    if not callable(answer):
        return None, f"{name} is not a function but {type(answer).__name__}: run its cell again."
    given = {key: copied(value) for key, value in inputs.items()}
    if followed:
        given[followed].requires_grad_()
    before, seed = dice(), torch.initial_seed()
    torch.manual_seed(OWN_SEED)  # so that any seed that the answer sets is another one
    state = dice()
    try:
        value = answer(*given.values())
    except Exception as error:  # whatever a learner writes
        torch.manual_seed(seed)
        throw_back(before)
        return None, raised(name, answer, error, list(inputs))
    moved = any(not np.array_equal(a, b) for a, b in zip(flat(state), flat(dice())))
    reseeded = torch.initial_seed() != OWN_SEED
    torch.manual_seed(seed)
    throw_back(before)
    spoilt = [
        key
        for key, old in inputs.items()
        if isinstance(old, nn.Module) and any(p.grad is not None for p in old.parameters())
    ]
    for key in spoilt:
        inputs[key].zero_grad(set_to_none=True)
    if spoilt and value is None:
        return None, (
            f"{name} returned None: .backward() wrote the gradient into copy.grad, and others into "
            f"the weights of {spoilt[0]}, so use torch.autograd.grad(loss, copy)[0] instead."
        )
    if value is None or value is Ellipsis:
        return None, blank(name)
    if reseeded:
        return value, (
            f"{name} sets the global seed, which changes the numbers of everybody else: "
            "draw from the generator that it is given."
        )
    if moved:
        return value, (
            f"{name} draws from the global random numbers: pass generator=generator "
            "to the drawing function."
        )
    if spoilt:
        return value, (
            f"{name} leaves gradients in the weights of {spoilt[0]}, as .backward() does: ask for "
            "that of the copy alone, with torch.autograd.grad(loss, copy)[0]."
        )
    for key, old in inputs.items():
        if isinstance(old, Tensor) and given[key].requires_grad and key != followed:
            return value, (
                f"{name} switches on requires_grad of its input {key}, which stays on after "
                f"it: work on copy = {key}.detach().clone().requires_grad_()."
            )
        if not same(given[key], old):
            return value, (
                f"{name} changes its input {key} in place: write a = a - b rather "
                "than a -= b, or work on a .clone()."
            )
    return value, ""


def flat(state: tuple) -> list:
    """The parts of `dice()` as plain arrays."""
    return [state[0].numpy(), state[1][1], state[1][2], np.array(state[2][1])]


def close(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding, with the same shape and kind of number; NaN equals NaN."""
    if not isinstance(a, Tensor) or a.shape != b.shape or a.is_complex() != b.is_complex():
        return False
    wide = torch.complex128 if b.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    size = b.abs()[b.abs().isfinite()]
    tiny = 1e-5 * float(size.max()) if size.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=tiny, equal_nan=True)


def kind_problem(name: str, value: Any, trial: Trial) -> str:
    """'' for a tensor, else what came instead."""
    if isinstance(value, Tensor):
        return ""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return (
            f"{name} returned a {type(value).__name__} with one entry: take its entry [0], "
            "as torch.autograd.grad always returns a tuple."
        )
    if isinstance(value, (list, tuple)):
        return (
            f"{name} returned a {type(value).__name__} of {len(value)} entries, not a tensor: "
            "join them along a new first axis with torch.stack."
        )
    if isinstance(value, (int, float, complex)) and trial.followed:
        return (
            f"{name} returned a plain number: .item() or float() cut it off from the images, "
            "so return the tensor."
        )
    stay = ": stay with torch" if isinstance(value, np.ndarray) else ""
    return f"{name} returned {article(type(value).__name__)}, not a tensor{stay}."


def article(noun: str) -> str:
    """The kind of a value, with its article."""
    known = {"ndarray": "a numpy array", "str": "a text"}
    return known.get(noun, f"a{'n' if noun[:1].lower() in 'aeiou' else ''} {noun}")


def shape_problem(name: str, value: Tensor, trial: Trial) -> str:
    """'' or which axis is wrong."""
    got, wanted = tuple(value.shape), tuple(trial.right.shape)
    meaning = f"{wanted} = ({', '.join(trial.axes)})"
    if got == wanted:
        return ""
    if not wanted:
        return f"{name} has the shape {got}, expected one number."
    if len(got) != len(wanted):
        return f"{name} has {len(got)} axes, shape {got}; expected {len(wanted)}, {meaning}."
    if sorted(got) == sorted(wanted):
        return f"{name} has its axes in another order, {got}; expected {meaning}."
    i = next(i for i in range(len(got)) if got[i] != wanted[i])
    return (
        f"{name} has {got[i]} instead of {wanted[i]} entries on axis {i} ({trial.axes[i]}): "
        f"shape {got}, expected {wanted}."
    )


def type_problem(name: str, value: Tensor, trial: Trial) -> str:
    """'' or a wrong kind of number."""
    if trial.right.is_complex() and not value.is_complex():
        return (
            f"{name} is real ({value.dtype}), expected complex: .abs() or .real loses the phases."
        )
    if value.is_complex() and not trial.right.is_complex():
        return f"{name} is complex, expected real numbers: a length is .abs(), an image is irfft2."
    if value.dtype != trial.right.dtype:
        return f"{name} has the type {value.dtype}, expected {trial.right.dtype}, the precision of the input."
    if trial.followed and not value.requires_grad:
        return (
            f"{name} has the right value but no graph: .detach() or no_grad() cut it off from "
            "the synthetic features, so that no gradient can flow back."
        )
    return ""


def value_problem(name: str, value: Tensor, trial: Trial) -> str:
    """The sentence for wrong values that are no known mistake: infinite, a factor, or where they differ."""
    value, right = value.detach(), trial.right.detach()
    if not value.isfinite().all():
        return f"{name} holds NaN or infinity: look for a division by zero."
    if trial.rule and (broken := trial.rule(value)):
        return f"{name} {broken}"
    if not right.shape:  # any two numbers have a ratio: it says nothing
        return f"{name} is one number, but not the right one: it is {value.item():.3g}, expected {right.item():.3g}."
    ratio = float((value * right.conj()).real.sum() / right.abs().square().sum())
    if ratio and close(value, ratio * right):
        if abs(ratio + 1) < 1e-3:
            return f"{name} has the wrong sign everywhere."
        for what, factor in trial.factors.items():
            if abs(ratio / factor - 1) < 1e-3:
                return (
                    f"{name} is {factor:g} times too large, and {factor:g} is {what}: "
                    "a mean is needed where there is a sum."
                )
            if abs(ratio * factor - 1) < 1e-3:
                return (
                    f"{name} is {factor:g} times too small, and {factor:g} is {what}: "
                    "it was divided once too often."
                )
        if 0 < ratio < 1:
            return f"{name} is {1 / ratio:.3g} times too small, everywhere."
        return f"{name} is {ratio:.3g} times what it should be, everywhere."
    at = int((value - right).abs().argmax())
    place = [int(i) for i in np.unravel_index(at, tuple(right.shape))]
    a, b = (
        complex(x.flatten()[at]) if right.is_complex() else float(x.flatten()[at])
        for x in (value, right)
    )
    spot = f" at {place}" if place else ""
    return f"{name} has the right shape but other values:{spot} it is {a:.3g}, expected {b:.3g}."


def judge(name: str, value: Any, trial: Trial) -> str:
    """'' for the right output, else one sentence."""
    if problem := kind_problem(name, value, trial):
        return problem
    if close(value, trial.right) and value.dtype == trial.right.dtype:
        return type_problem(name, value, trial)
    for sentence, wrong in trial.mistakes:
        if close(value, wrong()):
            return f"{name} {sentence}"
    return (
        shape_problem(name, value, trial)
        or type_problem(name, value, trial)
        or value_problem(name, value, trial)
    )


def scale_problem(name: str, answer: Any, trials: Sequence[Trial]) -> str:
    """'' or the factor by which an answer of one number is off on all inputs alike."""
    ratios = []
    for trial in trials:
        value, problem = call(name, answer, trial.inputs, trial.followed)
        if (
            problem
            or not isinstance(value, Tensor)
            or value.shape
            or trial.right.shape
            or not trial.right
        ):
            return ""
        ratios.append(float(value.detach() / trial.right.detach()))
    alike = lambda numbers: all(abs(x / numbers[0] - 1) < 1e-3 for x in numbers)  # noqa: E731
    if len(ratios) < 2 or not all(ratios):
        return ""
    if alike([*ratios, 1.0]):
        return ""
    if alike(ratios):
        return (
            f"{name} has the wrong sign."
            if alike([*ratios, -1.0])
            else f"{name} is {ratios[0]:.3g} times what it should be, on all inputs tried."
        )
    for what in trials[0].factors:
        factors = [trial.factors[what] for trial in trials]
        if alike([1.0, *(r / f for r, f in zip(ratios, factors))]):
            return f"{name} is too large by the factor {factors[0]:g}, {what}: a mean is needed where there is a sum."
        if alike([1.0, *(r * f for r, f in zip(ratios, factors))]):
            return f"{name} is too small by the factor {factors[0]:g}, {what}: it was divided once too often."
    return ""


def examine(name: str, answer: Any, trials: Sequence[Trial], agree: str) -> Verdict:
    """Try the answer on all inputs; the first problem decides."""
    for trial in trials:
        value, problem = call(name, answer, trial.inputs, trial.followed)
        if problem := problem or judge(name, value, trial):
            if problem.startswith(f"{name} is one number, but not the right one"):
                problem = scale_problem(name, answer, trials) or problem
            return Verdict(False, problem)
    return Verdict(True, f"{name} is right: {agree} agree.")


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers that depend on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---------------------------------------------------------------- 1 domain gradient

IMAGES = ("images", "channels", "rows", "columns")


def check_dm_loss(answer: Callable) -> Verdict:
    """Exercise 1: the DM loss (3) of real and synthetic features."""
    trials = []
    for seed, (n, m, D) in enumerate([(5, 3, 7), (4, 6, 2), (2, 4, 5)]):
        a, b = noise(n, D, seed=seed), noise(m, D, seed=seed + 10) + 1
        gap = a.mean(0) - b.mean(0)
        mistakes = [
            (
                "is the mean of the squared differences, but (3) sums them over the dimensions.",
                lambda gap=gap: gap.square().mean(),
            ),
            (
                "is one number per dimension: square the differences and sum them.",
                lambda gap=gap: gap.square(),
            ),
            (
                "is the difference of the means, one number per dimension: square and sum it.",
                lambda gap=gap: gap,
            ),
            (
                "is the distance itself, but (3) is the squared distance: leave the root out.",
                lambda gap=gap: gap.square().sum().sqrt(),
            ),
            (
                "sums absolute differences, but (3) sums their squares.",
                lambda gap=gap: gap.abs().sum(),
            ),
            (
                "sums the differences without squaring them, so that they cancel.",
                lambda gap=gap: gap.sum(),
            ),
            (
                "sums the differences without squaring them, so that they cancel.",
                lambda gap=gap: -gap.sum(),
            ),
            (
                "compares sums over the images, but (3) compares means: .mean(0), not .sum(0).",
                lambda a=a, b=b: (a.sum(0) - b.sum(0)).square().sum(),
            ),
            (
                "compares one number per side, the mean of everything: average over axis 0, the "
                "images, alone.",
                lambda a=a, b=b: (a.mean() - b.mean()).square(),
            ),
            (
                "compares every synthetic image with the real mean: average the synthetic features "
                "first, then subtract.",
                lambda a=a, b=b: (a.mean(0) - b).square().sum(1).mean(),
            ),
            (
                "compares every synthetic image with the real mean: average the synthetic features "
                "first, then subtract.",
                lambda a=a, b=b: (a.mean(0) - b).square().sum(),
            ),
            (
                "compares pairs, not the means: average the features on both sides first, then subtract.",
                lambda a=a, b=b: torch.cdist(a, b).square().mean(),
            ),
            (
                "compares pairs, not the means: average the features on both sides first, then subtract.",
                lambda a=a, b=b: torch.cdist(a, b).square().sum(),
            ),
            (
                "compares pairs, not the means, and squares nothing: average on both sides, subtract, then square and sum.",
                lambda a=a, b=b: torch.cdist(a, b).mean(),
            ),
            (
                "compares pairs, not the means, and squares nothing: average on both sides, subtract, then square and sum.",
                lambda a=a, b=b: torch.cdist(a, b).sum(),
            ),
            (
                "compares pairs, not the means: average the features on both sides first, then subtract.",
                lambda a=a, b=b: torch.cdist(a, b).square().mean() / a.shape[1],
            ),
            (
                "squares before it averages: take the means of the features, then the difference, "
                "then the square.",
                lambda a=a, b=b: (a.square().mean(0) - b.square().mean(0)).sum(),
            ),
        ]
        factors = {"the number of feature dimensions": D}
        trials.append(
            Trial(
                {"real": a, "synthetic": b},
                DM()({"embed": a}, {"embed": b}),
                (),
                mistakes,
                factors,
                followed="synthetic",
            )
        )
    return examine("dm_loss", answer, trials, "shape, value and graph")


def small_batch(
    K: int = 4, n: int = 6, N: int = 5, size: int = 16
) -> tuple[ConvNet, list[Tensor], Tensor]:
    """A small encoder, real images of K domains, and synthetic images, all of one class."""
    encoder = ConvNet(classes=2, size=size, width=7, seed=0)
    real = [noise(n, 3, size, size, seed=k) + 0.7 * k for k in range(K)]
    return encoder, real, noise(N, 3, size, size, seed=99)


def by_package(encoder: nn.Module, real: list[Tensor], images: Tensor) -> Tensor:
    """The domain gradients (6) of the package, (K, N, 3, H, W)."""
    K, n = len(real), len(real[0])
    labels = torch.zeros(K * n, dtype=torch.long)
    domains = torch.arange(K).repeat_interleave(n)
    zeros = torch.zeros(len(images), dtype=torch.long)
    batch = Batch(torch.cat(real), labels, domains, K, 1)
    return domain_gradients(encoder, DM(), batch, Batch(images, zeros, zeros, K, 1)).g_domain


def gradient_of(
    loss: Callable[[Tensor, Tensor], Tensor],
    real: Tensor,
    images: Tensor,
    features: Callable,
    of_real: bool = False,
) -> Tensor:
    """Gradient of a loss of features with respect to the images (or the real ones)."""
    a, b = (x.detach().clone().requires_grad_() for x in (real, images))
    return torch.autograd.grad(loss(features(a), features(b)), a if of_real else b)[0]


def dm(a: Tensor, b: Tensor) -> Tensor:
    """(3) with plain tensors."""
    return (a.mean(0) - b.mean(0)).square().sum()


def check_image_gradient(answer: Callable) -> Verdict:
    """Exercise 1: the gradient of the loss in image space, for one set of real images."""
    encoder, reals, images = small_batch()
    real, embed = reals[2], encoder.embed
    one_by_one = torch.cat([gradient_of(dm, real, image[None], embed) for image in images])
    mistakes = [
        (
            "has its sign flipped: return the gradient, the minus comes later, in the update (11).",
            lambda: -gradient_of(dm, real, images, embed),
        ),
        (
            "reads the logits, the last layer: use encoder.embed(...) on both sides.",
            lambda: gradient_of(dm, real, images, encoder),
        ),
        (
            "is the gradient with respect to the real images: differentiate by the synthetic ones.",
            lambda: gradient_of(dm, real, images, embed, of_real=True),
        ),
        (
            "compares sums over the images: in (3) the features are averaged on both sides.",
            lambda: gradient_of(
                lambda a, b: (a.sum(0) - b.sum(0)).square().sum(), real, images, embed
            ),
        ),
        (
            "is the gradient of the distance, but (3) is the squared distance.",
            lambda: gradient_of(lambda a, b: dm(a, b).sqrt(), real, images, embed),
        ),
        (
            "compares every synthetic image with the real mean: average the synthetic features first.",
            lambda: gradient_of(
                lambda a, b: (a.mean(0) - b).square().sum(1).mean(), real, images, embed
            ),
        ),
        (
            "takes one image at a time, so that each alone is drawn to the real mean: in (3) stands the mean of "
            "all synthetic images, so embed them together.",
            lambda: one_by_one,
        ),
        (
            "takes one image at a time, so that each alone is drawn to the real mean: in (3) stands the mean of "
            "all synthetic images, so embed them together.",
            lambda: one_by_one[:, None],
        ),
        (
            "compares the pixels, not the features: put both sides through encoder.embed first.",
            lambda: gradient_of(dm, real, images, lambda x: x),
        ),
        (
            "is the loss, one number: differentiate it by the images.",
            lambda: dm(embed(real), embed(images)).detach(),
        ),
    ]
    factors = {
        "the number of feature dimensions": embed(images).shape[1],
        "the number of synthetic images": len(images),
    }
    trial = Trial(
        {"encoder": encoder, "real": real, "images": images},
        by_package(encoder, reals, images)[2],
        IMAGES,
        mistakes,
        factors,
    )
    return examine("image_gradient", answer, [trial], "shape, sign and values")


def check_domain_gradient(answer: Callable) -> Verdict:
    """Exercise 1: one gradient per domain (6)."""
    encoder, real, images = small_batch()
    g = by_package(encoder, real, images)
    mistakes = [
        (
            "is one gradient of all domains together: keep the K gradients apart, stacked along a "
            "new first axis.",
            lambda: g.mean(0),
        ),
        (
            "is the sum over the domains: keep the K gradients apart, stacked along a new first axis.",
            lambda: g.sum(0),
        ),
        (
            "has images on axis 0 and domains on axis 1: stack along a new first axis (dim=0).",
            lambda: g.transpose(0, 1),
        ),
        (
            "glues the domains together along the images: use torch.stack, not torch.cat.",
            lambda: g.flatten(0, 1),
        ),
        (
            "repeats the gradient of domain 0: take real_by_domain[k] for domain k.",
            lambda: g[:1].expand_as(g),
        ),
        (
            "repeats the gradient of the last domain: take real_by_domain[k] for domain k.",
            lambda: g[-1:].expand_as(g),
        ),
        (
            "repeats the gradient of all domains together: take the images of domain k alone.",
            lambda: g.mean(0).expand_as(g),
        ),
        (
            "adds up from domain to domain, as images.grad does when it is not cleared: use "
            "torch.autograd.grad, or a fresh copy for every domain.",
            lambda: g.cumsum(0),
        ),
        (
            "is the gradient of domain 0 alone: does the `return` stand inside the loop?",
            lambda: g[0],
        ),
        (
            "is the gradient of the last domain alone: collect them in a list and stack it.",
            lambda: g[-1],
        ),
        ("has the domains in reverse order.", lambda: g.flip(0)),
        ("lacks the last domain: it must loop over all of real_by_domain.", lambda: g[:-1]),
        ("has its sign flipped: return the gradients as they are.", lambda: -g),
    ]
    trial = Trial(
        {"encoder": encoder, "real_by_domain": real, "images": images},
        g,
        ("domains", *IMAGES),
        mistakes,
        {"the number of domains": len(real)},
    )
    return examine("domain_gradient", answer, [trial], "order of the domains, shape and values")


def check_mean_gradient(answer: Callable) -> Verdict:
    """Exercise 1: the DM gradient as the mean of the domain gradients."""
    trials = []
    for seed, shape in enumerate([(4, 5, 3, 8, 13), (3, 2, 3, 6, 8)]):
        g, K = noise(*shape, seed=seed), shape[0]
        mistakes = [
            (
                f"is {K} times too large, and {K} is the number of domains: take the mean over them, "
                "not the sum.",
                lambda g=g: g.sum(0),
            ),
            (
                "averages over axis 1, the images: average over axis 0, the domains.",
                lambda g=g: g.mean(1),
            ),
            (
                "averages over everything: average over axis 0, the domains, alone.",
                lambda g=g: g.mean(),
            ),
            ("is the gradient of domain 0 alone: average over all domains.", lambda g=g: g[0]),
            (
                f"divides by 3, but here are {K} domains: let .mean(0) count them.",
                lambda g=g: g.sum(0) / 3,
            ),
            (
                "keeps an axis of length 1 in front: drop keepdim=True.",
                lambda g=g: g.mean(0, keepdim=True),
            ),
            (
                "averages absolute values: the signs must be able to cancel.",
                lambda g=g: g.abs().mean(0),
            ),
            (
                "is the median over the domains, but the DM gradient is their mean.",
                lambda g=g: g.median(0).values,
            ),
        ]
        trials.append(
            Trial({"g_domain": g}, g.mean(0), IMAGES, mistakes, {"the number of domains": K})
        )
    return examine("mean_gradient", answer, trials, "shape and values")


# ---------------------------------------------------------------- 2 FFT and resultant length

BINS = ("channels", "rows of frequencies", "columns of the half spectrum")


def check_spectrum(answer: Callable) -> Verdict:
    """Exercise 2: the half spectrum (7)."""
    trials = []
    for seed, shape in enumerate([(4, 5, 3, 8, 13), (2, 3, 6, 8)]):
        g, pixels = noise(*shape, seed=seed), shape[-1] * shape[-2]
        G = spectrum(g)
        mistakes = [
            (
                'is divided by the root of the number of pixels: leave norm="ortho" out, (7) is '
                "unnormalised.",
                lambda g=g: torch.fft.rfft2(g, norm="ortho"),
            ),
            (
                'is divided by the number of pixels: leave norm="forward" out, (7) is unnormalised.',
                lambda g=g: torch.fft.rfft2(g, norm="forward"),
            ),
            (
                "is the full spectrum: for real images half of it repeats, so use rfft2.",
                lambda g=g: torch.fft.fft2(g),
            ),
            (
                "is the full spectrum, centred: use rfft2, and leave the shift to the pictures.",
                lambda g=g: torch.fft.fftshift(torch.fft.fft2(g), dim=(-2, -1)),
            ),
            (
                "is shifted: fftshift is for pictures, the formulas want the frequencies in order.",
                lambda G=G: torch.fft.fftshift(G, dim=(-2, -1)),
            ),
            (
                "transforms all axes, domains, images and channels too: rfft2 takes the last two alone.",
                lambda g=g: torch.fft.rfftn(g),
            ),
            (
                "transforms the first two axes: an image lies in the last two, dim=(-2, -1).",
                lambda g=g: torch.fft.rfft2(g, dim=(0, 1)),
            ),
            (
                "transforms the axes before the image: an image lies in the last two, dim=(-2, -1).",
                lambda g=g: torch.fft.rfft2(g, dim=(-3, -2)),
            ),
            (
                "transforms the rows alone: rfft is one-dimensional, rfft2 is not.",
                lambda g=g: torch.fft.rfft(g),
            ),
            (
                "halves the rows instead of the columns: dim=(-2, -1), in this order.",
                lambda g=g: torch.fft.rfft2(g, dim=(-1, -2)),
            ),
            (
                "has lost its phases: leave .abs() out, the domains are compared by direction.",
                lambda G=G: G.abs(),
            ),
            ("has lost its imaginary part: leave .real out.", lambda G=G: G.real),
            (
                "has the imaginary part with the wrong sign: leave .conj() out.",
                lambda G=G: G.conj(),
            ),
            (
                "is an inverse transform: going to frequencies is rfft2.",
                lambda g=g: torch.fft.ifft2(g),
            ),
        ]
        axes = ("domains", "images", *BINS)[-len(shape) :]
        trials.append(
            Trial(
                {"g": g},
                G,
                axes,
                mistakes,
                {"the number of pixels": pixels, "the width of the images": shape[-1]},
            )
        )
    return examine("spectrum", answer, trials, "axes, norm and values")


def arrows(seed: int, shape: tuple[int, ...] = (4, 5, 3, 8, 7)) -> Tensor:
    """Complex arrows that agree in part."""
    return noise(*shape, seed=seed, dtype=torch.complex64) + noise(
        *shape[1:], seed=seed + 50, dtype=torch.complex64
    )


def check_consensus(answer: Callable) -> Verdict:
    """Exercise 2: the consensus (8)."""
    trials = []
    for seed, shape in enumerate([(4, 5, 3, 8, 7), (2, 3, 3, 6, 5)]):
        G, K = arrows(seed, shape), shape[0]
        mistakes = [
            (
                f"is {K} times too large, and {K} is the number of domains: take the mean over them, "
                "not the sum.",
                lambda G=G: G.sum(0),
            ),
            (
                "averages over axis 1, the images: the domains stand on axis 0.",
                lambda G=G: G.mean(1),
            ),
            ("averages over all axes: the domains stand on axis 0.", lambda G=G: G.mean()),
            (
                f"divides by 3, but here are {K} domains: let .mean(0) count them.",
                lambda G=G: G.sum(0) / 3,
            ),
            (
                "averages lengths: leave .abs() out, so that opposite arrows cancel.",
                lambda G=G: G.abs().mean(0),
            ),
            (
                "is the length of the mean arrow: leave .abs() out, its direction is needed later.",
                lambda G=G: G.mean(0).abs(),
            ),
            ("has lost the imaginary part: leave .real out.", lambda G=G: G.real.mean(0)),
            (
                "keeps an axis of length 1 in front: drop keepdim=True.",
                lambda G=G: G.mean(0, keepdim=True),
            ),
            (
                "averages over the frequencies: each frequency has a mean of its own, over axis 0.",
                lambda G=G: G.mean((-2, -1)),
            ),
        ]
        trials.append(
            Trial({"G": G}, consensus(G), ("images", *BINS), mistakes, {"the number of domains": K})
        )
    return examine("consensus", answer, trials, "shape, phase and values")


def beyond(R: Tensor) -> str:
    """'' or how R leaves its range."""
    low, high = float(R.min()), float(R.max())
    if high > 1 + 1e-4 or low < -1e-4:
        return (
            f"runs from {low:.2f} to {high:.2f}, but must stay in [0, 1]: above the length of "
            "the sum of the arrows, below the sum of their lengths."
        )
    return ""


def check_resultant_length(answer: Callable) -> Verdict:
    """Exercise 2: the resultant length (9)."""
    name, K = "resultant_length", 4
    G = arrows(3)
    above, below = G.sum(0).abs(), G.abs().sum(0)
    mistakes = [
        (
            "has no absolute values below: the sum below is of lengths, G.abs().sum(0).",
            lambda: above / G.sum(0),
        ),
        (
            "takes the same length above and below, so that it is 1 everywhere: below, sum the "
            "lengths, G.abs().sum(0).",
            lambda: above / (G.sum(0).abs() + 1e-8),
        ),
        (
            "is the sum of lengths above, too, so that it is 1 everywhere: above, sum first, then "
            "take .abs().",
            lambda: below / (below + 1e-8),
        ),
        (
            "is upside down: the length of the sum stands above, the sum of lengths below.",
            lambda: below / above,
        ),
        ("is not divided by anything: below stands the sum of the arrows' lengths.", lambda: above),
        (
            f"is {K} times too large, and {K} is the number of domains: sum above needs sum below, "
            "not mean.",
            lambda: above / (below / K),
        ),
        (
            f"is {K} times too small, and {K} is the number of domains: a mean stands above and a sum "
            "below.",
            lambda: above / K / below,
        ),
        ("is squared: (9) has lengths, not squared lengths.", lambda: (above / below).square()),
        (
            "divides by the root of summed squares, which can exceed 1: sum the lengths below.",
            lambda: above / G.abs().square().sum(0).sqrt(),
        ),
        ("uses the real part above: a length is .abs().", lambda: G.sum(0).real / below),
        ("is the complex mean direction: take .abs() of the sum above.", lambda: G.sum(0) / below),
        (
            "sums over axis 1, the images: the domains stand on axis 0.",
            lambda: G.sum(1).abs() / G.abs().sum(1),
        ),
        (
            "sums over all axes: every frequency has an R of its own, so sum over axis 0, the domains.",
            lambda: G.sum().abs() / G.abs().sum(),
        ),
        ("is one minus R: 1 means that the domains agree.", lambda: 1 - above / below),
        (
            "divides arrow by arrow and then averages: all arrows of length 1 count the same then, in "
            "(9) longer arrows count more.",
            lambda: (G / G.abs()).mean(0).abs(),
        ),
    ]
    axes = ("images", *BINS)
    first = Trial({"G": G, "eps": 1e-8}, resultant_length(G), axes, mistakes, rule=beyond)

    empty = G.clone()
    empty[:, :, :, 0, 0] = 0
    none = [
        (
            "is NaN where all domains are zero: add eps below.",
            lambda: empty.sum(0).abs() / empty.abs().sum(0),
        ),
        (
            "adds eps above as well, so that it is 1 where all domains are zero: eps belongs below alone.",
            lambda: (empty.sum(0).abs() + 1e-8) / (empty.abs().sum(0) + 1e-8),
        ),
    ]
    second = Trial({"G": empty, "eps": 1e-8}, resultant_length(empty), axes, none, rule=beyond)

    wide = [
        (
            "ignores the eps that it is given: use the argument, not a number of your own.",
            lambda: above / (below + 1e-8),
        ),
        (
            f"counts eps {K} times, once for each domain: add it after the sum (or sum, not average, "
            "above and below).",
            lambda: above / (below + K * 2.0),
        ),
        ("uses eps as a floor: add it.", lambda: above / below.clamp(min=2.0)),
        ("subtracts eps: add it.", lambda: above / (below - 2.0)),
    ]
    third = Trial({"G": G, "eps": 2.0}, resultant_length(G, 2.0), axes, wide, rule=beyond)
    verdict = examine(name, answer, [first, second, third], "shape, range and values")
    return Verdict(True, "R is right: shape, range and values agree.") if verdict else verdict


def check_noise_level(answer: Callable) -> Verdict:
    """Exercise 2: what R reads for arrows that have nothing in common."""
    name, samples = "noise_level", 20_000
    for K in (2, 4):
        generator = torch.Generator().manual_seed(K)
        before = generator.get_state()
        inputs = {"K": K, "samples": samples, "generator": generator}
        value, problem = call(name, answer, inputs)
        if problem:
            return Verdict(False, problem)
        if isinstance(value, Tensor) and value.numel() > 1:
            return Verdict(
                False,
                f"{name} returned {value.numel()} numbers: R of every draw; "
                "average them with .mean().",
            )
        if not isinstance(value, (Tensor, float, int, np.floating)):
            return Verdict(False, f"{name} returned {article(type(value).__name__)}, not a number.")
        if isinstance(value, Tensor) and value.is_complex():
            return Verdict(
                False, f"{name} is complex, expected the mean of lengths, a real number."
            )
        if torch.equal(before, generator.get_state()):
            return Verdict(
                False,
                f"{name} does not use the generator that it is given: pass "
                "generator=generator to torch.randn.",
            )
        if problem := level_problem(float(value), K, samples):
            return Verdict(False, f"{name} {problem}")
    return Verdict(True, f"{name} is right: range and values agree, up to the error of the draws.")


def level_problem(value: float, K: int, samples: int) -> str:
    """'' or which other level this is."""
    dice = torch.Generator().manual_seed(1)
    z = torch.randn(K, samples, dtype=torch.complex64, generator=dice)
    u = torch.rand(K, samples, dtype=torch.complex64, generator=dice)
    R = resultant_length(z)
    levels = {
        "": null_level(K, samples=samples).mean,
        "draws real numbers, and a real arrow knows only two directions: use "
        "dtype=torch.complex64.": null_level(K, real=True, samples=samples).mean,
        "draws with torch.rand, whose arrows all point the same way, up and right: use "
        "torch.randn.": float(resultant_length(u).mean()),
        "draws with torch.rand and real numbers, which all point the same way: use torch.randn "
        "with dtype=torch.complex64.": 1.0,
        "is the mean length of the mean arrow: R divides by the mean length of the arrows.": float(
            z.mean(0).abs().mean()
        ),
        "is the mean length of the sum: R divides by the sum of the lengths.": float(
            z.sum(0).abs().mean()
        ),
        "is the mean of R squared, not of R.": float(R.square().mean()),
        "averages the arrows over the draws first, so that they cancel: compute R of every draw, "
        "then average.": float(resultant_length(z.mean(1))),
        "draws arrows of length 1: use torch.randn, as noise has long and short arrows.": null_level(
            K, "equal", samples=samples
        ).mean,
        "sums over the draws: the domains stand on axis 0, shape (K, samples).": float(
            resultant_length(z.T).mean()
        ),
    }
    sentence, level = min(levels.items(), key=lambda item: abs(item[1] - value))
    if abs(level - value) < 0.012:
        return sentence
    return f"is {value:.3f} for K = {K}, expected about {levels['']:.2f}."


# ---------------------------------------------------------------- 3 the update rule


def split_case(seed: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Domain gradients that agree in part, their spectrum, R, and the size of an image."""
    g = noise(*shape, seed=seed) + noise(*shape[1:], seed=seed + 50)
    G = spectrum(g)
    return g, G, resultant_length(G), tuple(shape[-2:])


def check_class_part(answer: Callable) -> Verdict:
    """Exercise 3: g_cls, the first line of (10)."""
    trials = []
    for seed, shape in enumerate([(4, 5, 3, 8, 13), (3, 2, 3, 6, 8)]):
        g, G, R, size = split_case(seed, shape)
        back = lambda x, size=size: torch.fft.irfft2(x, s=size)  # noqa: E731
        mean, K = G.mean(0), shape[0]
        mistakes = [
            (
                "is the mean gradient: multiply its spectrum by R before going back.",
                lambda back=back, mean=mean: back(mean),
            ),
            (
                f"is {K} times too large, and {K} is the number of domains: R weighs the mean (8), not "
                "the sum.",
                lambda back=back, R=R, G=G: back(R * G.sum(0)),
            ),
            (
                "weighs with 1 - R, which keeps what the domains do not agree on: use R.",
                lambda back=back, R=R, mean=mean: back((1 - R) * mean),
            ),
            (
                "weighs all frequencies with one number, the mean of R: use R as it is.",
                lambda back=back, R=R, mean=mean: back(R.mean() * mean),
            ),
            ("is R alone, without the mean spectrum.", lambda back=back, R=R: back(R + 0j)),
            (
                "is still a spectrum: go back to pixels with irfft2.",
                lambda R=R, mean=mean: R * mean,
            ),
            (
                "has one part per domain: average over the domains (8) before weighing with R.",
                lambda back=back, R=R, G=G: back(R * G),
            ),
            ("divides by R: multiply.", lambda back=back, R=R, mean=mean: back(mean / R)),
            (
                "weighs with R squared: multiply once.",
                lambda back=back, R=R, mean=mean: back(R.square() * mean),
            ),
            (
                'is too large: leave norm="ortho" out, as on the way to the frequencies.',
                lambda R=R, mean=mean, size=size: torch.fft.irfft2(R * mean, s=size, norm="ortho"),
            ),
            (
                "has lost its phases before the way back: leave .abs() out.",
                lambda back=back, R=R, mean=mean: back(R * mean.abs()),
            ),
            (
                "has an even width although the image is odd: the half spectrum cannot tell, so pass "
                "s=size to irfft2.",
                lambda R=R, mean=mean: torch.fft.irfft2(R * mean),
            ),
            (
                "takes the half spectrum for a full one: use irfft2, not ifft2.",
                lambda R=R, mean=mean: torch.fft.ifft2(R * mean).real,
            ),
            ("has its sign flipped.", lambda back=back, R=R, mean=mean: -back(R * mean)),
        ]
        trials.append(
            Trial(
                {"G": G, "R": R, "size": size},
                decompose(g).g_cls,
                IMAGES,
                mistakes,
                {"the number of domains": K},
            )
        )
    return examine("class_part", answer, trials, "shape, weight and values")


def check_domain_part(answer: Callable) -> Verdict:
    """Exercise 3: g_dom, the second line of (10), reading (a)."""
    trials = []
    for seed, shape in enumerate([(4, 5, 3, 8, 13), (3, 2, 3, 6, 8)]):
        g, G, R, size = split_case(seed, shape)
        back = lambda x, size=size: torch.fft.irfft2(x, s=size)  # noqa: E731
        mean = G.mean(0)
        mistakes = [
            (
                "subtracts the whole mean, which is reading (b): this exercise subtracts the agreed "
                "part, R times the mean, reading (a).",
                lambda back=back, G=G, mean=mean: back(G - mean),
            ),
            (
                "has its sign flipped: domain minus agreed part.",
                lambda back=back, G=G, R=R, mean=mean: back(R * mean - G),
            ),
            (
                "subtracts R times each domain's own spectrum: subtract R times the mean.",
                lambda back=back, G=G, R=R: back(G - R * G),
            ),
            (
                "weighs the deviation with R: R belongs to the mean alone, G - R * mean.",
                lambda back=back, G=G, R=R, mean=mean: back(R * (G - mean)),
            ),
            (
                "subtracts R times the sum over the domains: take the mean.",
                lambda back=back, G=G, R=R: back(G - R * G.sum(0)),
            ),
            (
                "subtracts (1 - R) times the mean: the agreed part is R times the mean.",
                lambda back=back, G=G, R=R, mean=mean: back(G - (1 - R) * mean),
            ),
            (
                "adds the agreed part: subtract it.",
                lambda back=back, G=G, R=R, mean=mean: back(G + R * mean),
            ),
            ("is the domain gradient itself: subtract the agreed part.", lambda g=g: g),
            (
                "is averaged over the domains: keep the K parts apart, nothing to sum on axis 0.",
                lambda back=back, G=G, R=R, mean=mean: back(G - R * mean).mean(0),
            ),
            (
                "is the agreed part alone: subtract it from every G[k].",
                lambda back=back, R=R, mean=mean: back(R * mean),
            ),
            (
                "is still a spectrum: go back to pixels with irfft2.",
                lambda G=G, R=R, mean=mean: G - R * mean,
            ),
            (
                "has an even width although the image is odd: the half spectrum cannot tell, so pass "
                "s=size to irfft2.",
                lambda G=G, R=R, mean=mean: torch.fft.irfft2(G - R * mean),
            ),
        ]
        trials.append(
            Trial(
                {"G": G, "R": R, "size": size}, decompose(g).g_dom, ("domains", *IMAGES), mistakes
            )
        )
    return examine("domain_part", answer, trials, "shape, reading (a) and values")


def check_own_part(answer: Callable) -> Verdict:
    """Exercise 3: for each image the part of its own domain."""
    trials = []
    for seed, (K, domain) in enumerate([(4, [2, 0, 3, 3, 1]), (3, [1, 2])]):
        domain = torch.tensor(domain)
        N = len(domain)
        g = noise(K, N, 3, 8, 13, seed=seed)
        mistakes = [
            (
                "gives every image the part of domain 0: image i wants g_dom[domain[i], i].",
                lambda g=g: g[0],
            ),
            (
                "averages over the domains: image i wants the part of domain[i] alone.",
                lambda g=g: g.mean(0),
            ),
            (
                "sums over the domains: image i wants the part of domain[i] alone.",
                lambda g=g: g.sum(0),
            ),
            (
                "picks the domains but keeps all images for each of them: index both axes, "
                "g_dom[domain, torch.arange(N)].",
                lambda g=g, d=domain: g[d],
            ),
            (
                "indexes axis 1, the images, with domain numbers: the domains stand on axis 0.",
                lambda g=g, d=domain: g[:, d % g.shape[1]],
            ),
            (
                "uses the part of another domain: numbers are off by one, domain counts from 0.",
                lambda g=g, d=domain, K=K, N=N: g[(d - 1) % K, torch.arange(N)],
            ),
            (
                "uses the part of another domain: numbers are off by one, domain counts from 0.",
                lambda g=g, d=domain, K=K, N=N: g[(d + 1) % K, torch.arange(N)],
            ),
            (
                "takes the images' numbers for domains: image i belongs to domain[i].",
                lambda g=g, K=K, N=N: g[torch.arange(N) % K, torch.arange(N)],
            ),
            (
                "picks the domain of image i but always image 0: index both axes, "
                "g_dom[domain, torch.arange(N)].",
                lambda g=g, d=domain: g[d, 0],
            ),
            (
                "counts the domains from the end: leave the minus out.",
                lambda g=g, d=domain, K=K, N=N: g[(-d) % K, torch.arange(N)],
            ),
            (
                "counts the domains from the end: leave the minus out.",
                lambda g=g, d=domain, K=K, N=N: g[K - 1 - d, torch.arange(N)],
            ),
        ]
        trials.append(
            Trial({"g_dom": g, "domain": domain}, own_gradient(g, domain), IMAGES, mistakes)
        )
    return examine("own_part", answer, trials, "shape, domain of each image and values")


def check_update(answer: Callable) -> Verdict:
    """Exercise 3: the update (11)."""
    g = noise(4, 5, 3, 8, 13, seed=1) + noise(5, 3, 8, 13, seed=51)
    domain, images = torch.tensor([2, 0, 3, 3, 1]), noise(5, 3, 8, 13, seed=9)
    parts = decompose(g)
    g_dm, cls, own = g.mean(0), parts.g_cls, own_gradient(parts.g_dom, domain)
    a, b, lr = 0.7, 0.2, 3.0
    direction = SGS(alpha=a, beta=b)(DomainGradients(g, g_dm), domain * 0, domain)
    mistakes = [
        (
            "adds the direction, which climbs: subtract it, the loss should fall.",
            lambda: images + lr * direction,
        ),
        (
            "has alpha and beta swapped: alpha belongs to g_cls, beta to g_own.",
            lambda: images - lr * (g_dm + b * cls + a * own),
        ),
        ("is the step alone: subtract it from the images.", lambda: lr * direction),
        ("is the step alone, with its sign: add the images.", lambda: -lr * direction),
        (
            "forgets g_dm: alpha and beta add to it, they do not replace it.",
            lambda: images - lr * (a * cls + b * own),
        ),
        (
            "is the direction: go lr times along it, downhill, and return the images after the step.",
            lambda: direction,
        ),
        (
            "is the direction with its sign: go lr times along it from the images, and return these.",
            lambda: -direction,
        ),
        ("forgets the learning rate lr.", lambda: images - direction),
        (
            "multiplies g_dm alone by lr: put the whole sum into brackets.",
            lambda: images - lr * g_dm + a * cls + b * own,
        ),
        (
            "multiplies g_dm alone by lr: put the whole sum into brackets.",
            lambda: images - (lr * g_dm + a * cls + b * own),
        ),
        (
            "leaves g_own outside the brackets: the learning rate and the minus belong to all three terms.",
            lambda: images - lr * (g_dm + a * cls) + b * own,
        ),
        (
            "changes sign after the first term: put the whole sum into brackets.",
            lambda: images - lr * g_dm + lr * a * cls + lr * b * own,
        ),
        (
            "subtracts the domain part from the direction: (11) adds beta * g_own.",
            lambda: images - lr * (g_dm + a * cls - b * own),
        ),
        (
            "subtracts the class part from the direction: (11) adds alpha * g_cls.",
            lambda: images - lr * (g_dm - a * cls + b * own),
        ),
        ("forgets the domain part beta * g_own.", lambda: images - lr * (g_dm + a * cls)),
        ("forgets the class part alpha * g_cls.", lambda: images - lr * (g_dm + b * own)),
        ("forgets alpha and beta.", lambda: images - lr * (g_dm + cls + own)),
        (
            "weighs g_dm with alpha: in (11) it counts in full.",
            lambda: images - lr * (a * g_dm + a * cls + b * own),
        ),
        (
            "mixes g_dm and g_cls as (1 - alpha) and alpha: in (11) g_dm counts in full.",
            lambda: images - lr * ((1 - a) * g_dm + a * cls + b * own),
        ),
        ("is plain DM: add alpha * g_cls and beta * g_own to g_dm.", lambda: images - lr * g_dm),
        ("returned the images unchanged.", lambda: images),
    ]
    inputs = {
        "images": images,
        "g_dm": g_dm,
        "g_cls": cls,
        "g_own": own,
        "alpha": a,
        "beta": b,
        "lr": lr,
    }
    trial = Trial(inputs, images - lr * direction, IMAGES, mistakes)
    return examine("update", answer, [trial], "sign, weights and values")


# ---------------------------------------------------------------- 4 distil and judge fairly


def tiny_source(seed: int = 0, n: int = 72) -> MultiDomain:
    """Random pictures of two classes in three domains, 8 x 8 pixels."""
    dice = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (n, 3, 8, 8), generator=dice, dtype=torch.uint8)
    i = torch.arange(n)
    return MultiDomain.from_arrays(
        x, i % 2, i % 3, classes=("a", "b"), domain_names=("r", "s", "t")
    )


def check_make_pair(answer: Callable) -> Verdict:
    """Exercise 4: two distilled sets that differ in nothing but the surgery."""
    name, source = "make_pair", tiny_source()
    for ipc, steps, seed in [(3, 2, 5), (4, 1, 8)]:
        inputs = {"source": source, "ipc": ipc, "steps": steps, "seed": seed}
        value, problem = call(name, answer, inputs)
        if problem := problem or pair_problem(value, **inputs):
            return Verdict(False, problem if problem.startswith(name) else f"{name} {problem}")
    return Verdict(True, f"{name} is right: the two sets differ in the surgery alone.")


def pair_problem(value: Any, source: MultiDomain, ipc: int, steps: int, seed: int) -> str:
    """'' or what makes the comparison unfair."""
    if isinstance(value, DistilledSet):
        return "returned one set: return both, `return plain, ours`."
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or not all(isinstance(v, DistilledSet) for v in value)
    ):
        return "must return two distilled sets, `return plain, ours`, each made by distill(...)."
    recipes = [v.recipe for v in value]
    operated = [r.get("surgery") is not None for r in recipes]
    if operated == [True, False]:
        return "has the two sets swapped: plain DM first, DM + SGS second."
    if operated == [False, False]:
        return "distils plain DM twice: the second set needs surgery=SGS()."
    if operated == [True, True]:
        return "operates on both sets: the first one is plain DM, without surgery."
    if any(r["data"] != fingerprint(source) for r in recipes):
        return "distils other images than the source that it is given: use the argument source."
    first, second = recipes
    if first["seed"] != second["seed"]:
        return (
            f"gives the two sets different seeds, {first['seed']} and {second['seed']}: the pair "
            "must share start images and encoders."
        )
    if first["seed"] != seed:
        return f"uses seed {first['seed']} whatever it is asked for: pass seed=seed."
    for key, asked in (("ipc", ipc), ("steps", steps)):
        got = [max(r[key]) if key == "ipc" else r[key] for r in recipes]
        if got[0] != got[1]:
            return (
                f"gives the two sets different {key}, {got[0]} and {got[1]}: an unfair advantage."
            )
        if got[0] != asked:
            return f"uses {key}={got[0]} although it is asked for {asked}: pass {key}={key}."
    free = {"surgery"}
    other = [k for k in first if k in second and k not in free and first[k] != second[k]]
    if other:
        return (
            f"gives the two sets different {other[0]}, {first[other[0]]} and {second[other[0]]}: "
            "the surgery alone may differ."
        )
    return ""


def check_accuracies(answer: Callable) -> Verdict:
    """Exercise 4: the accuracy of each of several networks."""
    name, networks = "accuracies", 3
    source, target = tiny_source(), tiny_source(seed=1, n=240)
    small, recipe = random_coreset(source, 6), Recipe("check", epochs=3, lr=0.05, batch=12)
    inputs = {"distilled": small, "target": target, "networks": networks, "recipe": recipe}
    value, problem = call(name, answer, inputs)
    if problem:
        return Verdict(False, problem)
    right = evaluate(small, target, seeds=networks, recipe=recipe).values
    if isinstance(value, Scores):
        return Verdict(
            False,
            f"{name} returned the Scores object: return its .values, one accuracy per network.",
        )
    try:
        value = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return Verdict(
            False,
            f"{name} returned {article(type(value).__name__)}, expected one number per network.",
        )
    alike = lambda other: value.shape == np.shape(other) and np.allclose(value, other)  # noqa: E731
    cases = (
        (right, ""),
        (
            right.mean(),
            "returned one number, the mean: it hides the spread, so return one accuracy "
            "per network, .values.",
        ),
        (
            right.max(),
            "returned the best network's accuracy: choosing the best by its target score "
            "is peeking, so return all of them.",
        ),
        (np.median(right), "returned one number, the median: return all accuracies."),
        (right.std(ddof=1), "returned the spread: return the accuracies themselves."),
        (right / 100, "returned shares between 0 and 1: accuracies are in per cent here."),
    )
    for other, sentence in cases:
        if alike(other):
            return (
                Verdict(True, f"{name} is right: number of networks and values agree.")
                if not sentence
                else Verdict(False, f"{name} {sentence}")
            )
    if value.shape != right.shape:
        count = value.size
        if count == networks:
            return Verdict(
                False,
                f"{name} has the shape {value.shape}, expected {right.shape}: one "
                "number per network.",
            )
        return Verdict(
            False,
            f"{name} returned {count} value{'s' * (count != 1)} for "
            f"{networks} networks: pass seeds=networks to evaluate.",
        )
    if alike(evaluate(small, target, seeds=networks).values):
        return Verdict(False, f"{name} ignores the recipe that it is given: pass recipe=recipe.")
    for wrong in (
        evaluate(small, source, seeds=networks, recipe=recipe),
        evaluate(target, target, seeds=networks, recipe=recipe),
    ):
        if alike(wrong.values):
            return Verdict(
                False,
                f"{name} must train on the distilled set and score on the target: "
                "evaluate(distilled, target, ...).",
            )
    return Verdict(
        False,
        f"{name} has other values than networks 0 to {networks - 1} reach: pass "
        "seeds=networks and recipe=recipe to evaluate, and change nothing else.",
    )


def check_paired_interval(answer: Callable) -> Verdict:
    """Exercise 4: mean and 95 % interval of the paired difference."""
    name = "paired_interval"
    for seed, (S, n) in enumerate([(5, 7), (4, 3)]):
        dice = np.random.default_rng(seed)
        shared = 40 + 4 * dice.standard_normal((S, 1))
        plain = shared + 2 * dice.standard_normal((S, n))
        ours = shared + 0.8 + 2 * dice.standard_normal((S, n)) + 0.7 * dice.standard_normal((S, 1))
        value, problem = call(name, answer, {"ours": ours, "plain": plain})
        if problem := problem or interval_problem(value, ours, plain):
            return Verdict(False, problem if problem.startswith(name) else f"{name} {problem}")
    return Verdict(True, f"{name} is right: pairing, width and sign agree.")


def interval_problem(value: Any, ours: np.ndarray, plain: np.ndarray) -> str:
    """'' or which other interval this is."""
    S, n = ours.shape
    d = ours.mean(1) - plain.mean(1)
    m, (low, high) = d.mean(), student_interval(d)
    try:
        value = np.asarray([float(v) for v in value])
    except (TypeError, ValueError):
        return (
            f"must return three numbers, `return mean, low, high`, not "
            f"{article(type(value).__name__)}."
        )
    if value.shape != (3,):
        return f"returned {value.size} numbers: return three, `return mean, low, high`."

    def around(half: float, middle: float = m) -> list[float]:
        return [middle, middle - half, middle + half]

    t = (high - low) / 2 / (d.std(ddof=1) / np.sqrt(S))
    apart = np.sqrt(ours.mean(1).var(ddof=1) / S + plain.mean(1).var(ddof=1) / S)
    best = ours.max(1) - plain.max(1)
    from scipy.stats import t as student

    cases = (
        ([m, low, high], ""),
        (
            [-m, -high, -low],
            "has its sign flipped: ours minus plain, so that positive means that SGS is ahead.",
        ),
        ([low, m, high], "returned low, mean, high: the order is mean, low, high."),
        ([low, high, m], "returned low, high, mean: the order is mean, low, high."),
        ([m, high, low], "has the ends of the interval swapped: mean, low, high."),
        (
            [m, *student_interval((ours - plain).ravel())],
            f"takes all {S * n} networks for independent runs, so that the interval is wrong: networks "
            "trained on one set share its luck, so average over them first (axis 1).",
        ),
        (
            [m, *student_interval((ours - plain).mean(0))],
            "averages over the distillation seeds and compares networks: average over axis 1, so that "
            "one difference per distillation seed is left.",
        ),
        (
            around(student.ppf(0.975, 2 * S - 2) * apart),
            "forgets the pairs: subtract seed by seed first, then take the interval of the differences.",
        ),
        (
            around(1.96 * d.std(ddof=1) / np.sqrt(S)),
            "uses 1.96, which is for many seeds: for a few take Student's t, student_interval.",
        ),
        (
            around(2 * d.std(ddof=1) / np.sqrt(S)),
            "uses 2 standard errors, which is for many seeds: for a few take Student's t, "
            "student_interval.",
        ),
        (
            around(t * d.std() / np.sqrt(S)),
            "divides by n in the standard deviation: n - 1 belongs there, ddof=1.",
        ),
        (
            around(t * d.std(ddof=1)),
            "forgets the root of the number of seeds: an interval of a mean uses std / sqrt(n).",
        ),
        (
            around(d.std(ddof=1)),
            "gives mean ± standard deviation, which is the spread, not a 95 % interval of the mean.",
        ),
        (
            around(d.std(ddof=1) / np.sqrt(S)),
            "gives mean ± standard error, which holds the truth in about two of three cases: a 95 % "
            "interval is wider, use student_interval.",
        ),
        (
            [best.mean(), *student_interval(best)],
            "compares the best network of each set: choosing by the target score is peeking, so "
            "average over the networks.",
        ),
    )
    for other, sentence in cases:
        if np.allclose(value, other, rtol=1e-6, atol=1e-9, equal_nan=True):
            return sentence
    if not np.isclose(value[0], m):
        return f"has the mean difference {value[0]:.3g}, expected {m:.3g}."
    return (
        f"has the right mean, but the interval {value[1]:.2f} to {value[2]:.2f}; expected "
        f"{low:.2f} to {high:.2f}, Student's t over the {S} differences."
    )


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


def check_claim(answer: Callable) -> Verdict:
    """Exercise 4: the sentence that the numbers allow."""
    name = "claim"
    for low, high, seeds, networks, number, why in CASES:
        inputs = {"low": low, "high": high, "seeds": seeds, "networks": networks}
        value, problem = call(name, answer, inputs)
        if problem:
            return Verdict(False, problem)
        if not isinstance(value, str):
            return Verdict(
                False,
                f"{name} returned {article(type(value).__name__)}, not one of the four sentences.",
            )
        if value not in CLAIMS:
            near = difflib.get_close_matches(str(value), CLAIMS, 1, 0.5)
            hint = f"did you mean {near[0]!r}" if near else f"one of {', '.join(map(repr, CLAIMS))}"
            return Verdict(
                False,
                f"{name} returned {value!r}, which is none of the four sentences: "
                f"{hint}{'?' if near else '.'}",
            )
        if value != CLAIMS[number]:
            swapped = {value, CLAIMS[number]} == set(CLAIMS[2:])
            extra = " (better and worse are swapped)" if swapped else ""
            return Verdict(
                False,
                f"{name} says {value!r} for an interval of {low:+} to {high:+} from "
                f"{seeds} seeds x {networks} networks, but {why}{extra}.",
            )
    return Verdict(True, f"{name} is right: all {len(CASES)} cases agree.")


def stored_study() -> DataFrame | None:
    """Scores on street of the study that is stored in the repository; None without the repository."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "main_mini.jsonl"
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
