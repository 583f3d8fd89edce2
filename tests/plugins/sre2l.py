"""A tiny SRe2L (Yin et al., NeurIPS 2023): a teacher, images from its batch-norm statistics, soft labels.

One file outside the package, built on public names alone. In a study: `make = "plugins.sre2l:sre2l"`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgdd_nb.augment import strategy_for
from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distilled import DistilledSet, assign_domains
from dgdd_nb.files import derive_seed, generator, pick_device
from dgdd_nb.networks import network
from dgdd_nb.train import get_recipe, train


def statistics_loss(x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    "Distance of the batch statistics of x to running ones: two norms, not squared, biased variance."
    found_var, found_mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return (found_var - var).norm() + (found_mean - mean).norm()


def watch_batch_norms(net: nn.Module, found: list) -> None:
    "From now on each batch norm appends its loss to `found` when an input passes."

    def note(layer: nn.BatchNorm2d, inputs: tuple) -> None:
        found.append(statistics_loss(inputs[0], layer.running_mean, layer.running_var))

    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(note)


def invert(
    teacher: nn.Module,
    labels: Tensor,
    clip: tuple[Tensor, Tensor],
    seed: int,
    steps: int,
    lr: float,
    weight: float,
) -> tuple[Tensor, list[float]]:
    "Images (N, 3, H, W) of these classes whose statistics are the teacher's; and the loss of each step."
    shape = (len(labels), *teacher.input_shape)
    x = (
        torch.randn(shape, generator=generator(seed, "sre2l-start"))
        .to(labels.device)
        .requires_grad_()
    )
    optimiser, dice, history = (
        torch.optim.Adam([x], lr=lr, betas=(0.5, 0.9)),
        generator(seed, "sre2l-roll"),
        [],
    )
    watch_batch_norms(teacher, layers := [])
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        layers.clear()
        shift = torch.randint(-2, 3, (2,), generator=dice).tolist()
        logits = teacher(x.roll(shift, (2, 3)))
        loss = functional.cross_entropy(logits, labels) + weight * (
            10 * layers[0] + sum(layers[1:])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            x.copy_(torch.minimum(torch.maximum(x, clip[0]), clip[1]))  # what a picture can show
        history.append(loss.detach())
    return x.detach(), torch.stack(history).tolist()


def sre2l(
    source: MultiDomain,
    ipc: int,
    seed: int,
    work: object = None,
    *,
    steps: int = 300,
    lr: float = 0.1,
    weight: float = 0.05,
    recipe: str | dict = "quick",
    width: int | None = None,
) -> DistilledSet:
    "Squeeze, recover, relabel; the soft labels are those of the teacher at temperature 1."
    device = pick_device(getattr(work, "device", "auto"))
    moved: Callable | None = getattr(work, "moved", None)
    build = {"classes": source.C, "size": source.size, "width": width}
    teacher = network("convnet-bn", **build, seed=derive_seed(seed, "sre2l-teacher")).to(device)
    normalise, recipe = source.normalisation(), get_recipe(recipe)
    recipe = get_recipe(recipe, augment=strategy_for(recipe.augment, source.classes))
    data = Batch(source.images, source.labels, source.domains, source.K, source.C).to(device)
    train(teacher, data, recipe, seed, normalise=normalise)
    for parameter in teacher.eval().parameters():
        parameter.requires_grad_(False)
    labels, _ = assign_domains(ipc, source.present, source.classes)
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    clip = tuple(normalise(ends.to(device)))
    images, losses = invert(teacher, labels.to(device), clip, seed, steps, lr, weight)
    with torch.no_grad():
        soft = teacher(images).softmax(1)
    if moved is not None:
        moved(steps, steps)
    made = {"method": "SRe2L", "seed": seed, "steps": steps, "lr": lr, "weight": weight}
    nobody = torch.full_like(labels, -1)  # the images belong to no domain
    names = source.classes, source.domain_names
    history = {"loss": torch.tensor(losses)}
    return DistilledSet(images.cpu(), soft.cpu(), nobody, *names, normalise, made, history=history)
