"""The DM step as it is usually written, as a yardstick for our engine.

A plain re-creation, in our own words, of the *structure* of the public training loop of dataset condensation by
distribution matching (Zhao and Bilen, 2023; repository VICO-UoE/DatasetCondensation). No line is copied. What it keeps:

- the training images lie on the device as normalised float32, one index list per class lies on the host;
- a new network is built in every step;
- a Python loop over the classes; per class the whole index list is permuted with numpy and its head is gathered;
- real and synthetic images are augmented with the same seed, in two calls; random numbers are drawn for every image,
  and those of the first image are then given to all; scale and rotation build one 2 x 3 matrix per image in a list;
- the real forward without a graph, the synthetic forward with one, the losses summed, one backward, SGD with momentum.

What it does better than the public one, so that the comparison is fair and repeatable: the seeds are arguments (the
public loop takes them from the clock), the first number is copied to all without overlapping memory, and the hole of
the cutout is a comparison of indices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRATEGY = "color_crop_cutout_flip_scale_rotate"


class PlainConvNet(nn.Module):
    """ConvNet-D of plain modules; state-dict names as in `dgdd_nb.networks`."""

    def __init__(self, classes: int, size: int, width: int = 128, depth: int = 3):
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers.append(nn.Conv2d(3 if block == 0 else width, width, 3, padding=1))
            layers.append(nn.GroupNorm(width, width))
            layers.append(nn.ReLU(inplace=True))
            layers.append(nn.AvgPool2d(2, stride=2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (size >> depth) ** 2, classes)

    def embed(self, x: Tensor) -> Tensor:
        return self.features(x).flatten(1)


# ---- augmentation: x (B, 3, H, W), random numbers of the first image for all ----
# Every draw starts a generator of its own, with the next seed: else the second draw of an operation would depend on the
# number of images, and real and synthetic images would be transformed differently.

Seeds = Iterator[torch.Generator]


def _from(seed: int) -> Seeds:
    """Generators seeded with seed, seed + 1, ..."""
    return (torch.Generator().manual_seed(number) for number in count(seed))


def _first_for_all(values: Tensor) -> Tensor:
    """Numbers were drawn for every image; the first one's are used by all."""
    values[:] = values[0].clone()
    return values


def _uniform(x: Tensor, seeds: Seeds) -> Tensor:
    """One number in [0, 1) per image, shape (B, 1, 1, 1)."""
    values = torch.rand(len(x), 1, 1, 1, generator=next(seeds))
    return _first_for_all(values).to(x.device)


def _whole(x: Tensor, low: int, high: int, seeds: Seeds) -> Tensor:
    """One whole number in [low, high) per image, shape (B, 1, 1)."""
    return _first_for_all(torch.randint(low, high, (len(x), 1, 1), generator=next(seeds))).to(
        x.device
    )


def _brightness(x: Tensor, seeds: Seeds) -> Tensor:
    return x + (_uniform(x, seeds) - 0.5)


def _saturation(x: Tensor, seeds: Seeds) -> Tensor:
    grey = x.mean(dim=1, keepdim=True)
    return (x - grey) * (_uniform(x, seeds) * 2) + grey


def _contrast(x: Tensor, seeds: Seeds) -> Tensor:
    mean = x.mean(dim=[1, 2, 3], keepdim=True)
    return (x - mean) * (_uniform(x, seeds) + 0.5) + mean


def _crop(x: Tensor, seeds: Seeds) -> Tensor:
    height, width = x.shape[2:]
    far_rows, far_columns = int(height * 0.125 + 0.5), int(width * 0.125 + 0.5)
    down = _whole(x, 0, 2 * far_rows + 1, seeds)  # (B, 1, 1), from the edge of the padded image
    right = _whole(x, 0, 2 * far_columns + 1, seeds)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    row = torch.arange(height, device=x.device)[:, None] + down
    column = torch.arange(width, device=x.device) + right
    padded = F.pad(x, (far_columns, far_columns, far_rows, far_rows))
    return padded[image, :, row, column].movedim(-1, 1)


def _cutout(x: Tensor, seeds: Seeds) -> Tensor:
    height, width = x.shape[2:]
    high, wide = int(height * 0.5 + 0.5), int(width * 0.5 + 0.5)
    top = _whole(x, 0, height + 1 - high % 2, seeds) - high // 2
    left = _whole(x, 0, width + 1 - wide % 2, seeds) - wide // 2
    row = torch.arange(height, device=x.device)[:, None]
    column = torch.arange(width, device=x.device)
    inside = (row >= top) & (row < top + high) & (column >= left) & (column < left + wide)
    return x * (~inside).to(x.dtype)[:, None]


def _flip(x: Tensor, seeds: Seeds) -> Tensor:
    return torch.where(_uniform(x, seeds) < 0.5, x.flip(3), x)


def _warp(x: Tensor, matrices: list[list[list[float]]]) -> Tensor:
    grid = F.affine_grid(
        torch.tensor(matrices, dtype=x.dtype, device=x.device), x.shape, align_corners=False
    )
    return F.grid_sample(x, grid, align_corners=False)


def _scale(x: Tensor, seeds: Seeds) -> Tensor:
    across, along = (
        torch.rand(len(x), generator=next(seeds)) * (1.2 - 1 / 1.2) + 1 / 1.2 for _ in range(2)
    )
    across, along = _first_for_all(across), _first_for_all(along)
    return _warp(x, [[[across[i], 0, 0], [0, along[i], 0]] for i in range(len(x))])


def _rotate(x: Tensor, seeds: Seeds) -> Tensor:
    angle = _first_for_all((torch.rand(len(x), generator=next(seeds)) - 0.5) * 2 * 15 / 180 * np.pi)
    cos, sin = torch.cos, torch.sin
    rows = [
        [[cos(angle[i]), sin(-angle[i]), 0], [sin(angle[i]), cos(angle[i]), 0]]
        for i in range(len(x))
    ]
    return _warp(x, rows)


GROUPS = {
    "color": (_brightness, _saturation, _contrast),
    "crop": (_crop,),
    "cutout": (_cutout,),
    "flip": (_flip,),
    "scale": (_scale,),
    "rotate": (_rotate,),
}


def augment(
    x: Tensor,  # normalised images, shape (B, 3, H, W)
    strategy: str,  # names joined by "_", or "" for no augmentation
    seed: int,  # the same seed gives real and synthetic images the same transform
) -> Tensor:
    """One group of operations, drawn with the seed, applied to the whole batch."""
    if not strategy:
        return x
    names = strategy.split("_")
    name = names[int(torch.randint(0, len(names), (1,), generator=next(_from(seed))))]
    seeds = _from(seed)
    for operation in GROUPS[name]:
        x = operation(x, seeds)
    return x.contiguous()


# ---- the loop ----


class PublicLoop:
    """DM as a loop over the classes; `step()` is one iteration."""

    def __init__(
        self,
        images: Tensor,  # normalised float32 (M, 3, H, W), on the device
        labels: Tensor,  # (M,) int64
        synthetic: Tensor,  # (C * ipc, 3, H, W) starting images, sorted by class
        ipc: int,  # synthetic images per class
        *,
        width: int = 128,  # of the network
        depth: int = 3,  # of the network
        real_batch: int = 256,  # real images per class
        strategy: str = STRATEGY,  # of the augmentation, "" for none
        lr: float = 1.0,  # on the pixels
        momentum: float = 0.5,
        seed: int = 0,
    ):
        self.images, self.ipc, self.real_batch, self.strategy = images, ipc, real_batch, strategy
        self.classes = int(labels.max()) + 1
        host = labels.cpu().numpy()
        self.of_class = [np.flatnonzero(host == c) for c in range(self.classes)]
        self.synthetic = synthetic.detach().clone().requires_grad_()
        self.optimiser = torch.optim.SGD([self.synthetic], lr=lr, momentum=momentum)
        self.width, self.depth = width, depth
        self.random, self.steps = np.random.default_rng(seed), 0

    def batch(self, c: int) -> Tensor:
        """Real images of one class: permute the whole index list, keep its head."""
        chosen = self.random.permutation(self.of_class[c])[: self.real_batch]
        return self.images[torch.as_tensor(chosen, device=self.images.device)]

    def network(self) -> nn.Module:
        """A new untrained network with frozen weights."""
        net = PlainConvNet(self.classes, self.images.shape[-1], self.width, self.depth)
        net = net.to(self.images.device).train()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        return net

    def loss(self, net: nn.Module, batches: Sequence[Tensor] | None = None) -> Tensor:
        """The loss summed over the classes, as a graph; `batches` fixes the real images (for tests)."""
        total = torch.zeros((), device=self.images.device)
        for c in range(self.classes):
            real = self.batch(c) if batches is None else batches[c]
            synthetic = self.synthetic[c * self.ipc : (c + 1) * self.ipc]
            seed = int(self.random.integers(100_000))
            real = augment(real, self.strategy, seed)
            synthetic = augment(synthetic, self.strategy, seed)
            features = net.embed(real).detach()
            difference = features.mean(dim=0) - net.embed(synthetic).mean(dim=0)
            total = total + (difference**2).sum()
        return total

    def step(self) -> float:
        """One iteration; returns the loss per class."""
        loss = self.loss(self.network())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.steps += 1
        return loss.item() / self.classes
