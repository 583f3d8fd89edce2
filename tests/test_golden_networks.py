"""ConvNet-D and DSA against values computed with the public reference code."""

import numpy as np
import pytest
import torch
from shared import assert_near, load, state

from dgdd_nb.augment import OPERATIONS, Params, apply, color, crop, cutout, flip, rotate, scale
from dgdd_nb.networks import ConvNet, block_tail

NETS = {"d3_32": (10, 32, 3, 3), "d4_64": (7, 64, 3, 4), "d3_28gray": (10, 28, 1, 3)}
COUNTS = {
    "d3_32_rgb_c10": (10, 32, 3, 3),
    "d4_64_rgb_c10": (10, 64, 3, 4),
    "d5_128_rgb_c10": (10, 128, 3, 5),
    "d3_28_gray_c10": (10, 28, 1, 3),
    "d4_64_rgb_c7": (7, 64, 3, 4),
    "d3_32_rgb_c7": (7, 32, 3, 3),
}


@pytest.fixture(scope="module")
def convnet():
    return load("convnet.npz")


@pytest.fixture(scope="module")
def dsa():
    return load("dsa.npz")


@pytest.mark.parametrize("tail", [None, block_tail])
@pytest.mark.parametrize("precision, tolerance", [("f64", 1e-12), ("f32", 5e-6)])
@pytest.mark.parametrize("case", NETS)
def test_convnet(convnet, case, precision, tolerance, tail):
    classes, size, channels, depth = NETS[case]
    net = ConvNet(classes, size, channels=channels, width=16, depth=depth, seed=0)
    net.load_state_dict(state(convnet, f"{case}/state/"))
    dtype = torch.float64 if precision == "f64" else torch.float32
    net.to(dtype).tail = tail
    x = torch.tensor(convnet[f"{case}/x"]).to(dtype).requires_grad_()
    found = net.extract(x, ("embed", "logits"))
    for name, value in found.items():
        assert_near(value, convnet[f"{case}/{name}_{precision}"], tolerance)
    key = f"{case}/pixel_grad_{precision}"
    if key in convnet:
        cotangent = torch.tensor(convnet[f"{case}/cotangent"]).to(dtype)
        (grad,) = torch.autograd.grad(found["logits"], x, cotangent)
        assert_near(grad, convnet[key], tolerance)


@pytest.mark.parametrize("case", COUNTS)
def test_convnet_counts(convnet, case):
    classes, size, channels, depth = COUNTS[case]
    net = ConvNet(classes, size, channels=channels, seed=0)
    assert sum(p.numel() for p in net.parameters()) == convnet[f"param_count_w128/{case}"]
    assert net.embed_size == convnet[f"embed_dim_w128/{case}"]
    assert net.depth == depth


KEYS = {
    "flip": (flip, ("flip",), 0),
    "crop": (crop, ("shift_rows", "shift_cols"), 0),
    "cutout": (cutout, ("offset_rows", "offset_cols", "size"), 0),
    "scale": (scale, ("sx", "sy"), 1e-5),
    "rotate": (rotate, ("angle_rad",), 1e-5),
    "brightness": (lambda x, add, owner=None: color(x, add, 1, 1, owner), ("add",), 1e-6),
    "saturation": (lambda x, factor, owner=None: color(x, 0, factor, 1, owner), ("factor",), 1e-6),
    "contrast": (lambda x, factor, owner=None: color(x, 0, 1, factor, owner), ("factor",), 1e-6),
}


@pytest.mark.parametrize("sharing", ["shared", "per_image"])
@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("shape", ["sq", "ns"])
def test_dsa_operation(dsa, shape, name, sharing):
    function, keys, tolerance = KEYS[name]
    arguments = [torch.tensor(dsa[f"{shape}/{name}/{sharing}/{key}"]) for key in keys]
    if name == "cutout":
        arguments[2] = tuple(arguments[2].tolist())
    x = torch.tensor(dsa[f"{shape}/x"]).requires_grad_()
    out = function(x, *arguments)
    assert_near(out, dsa[f"{shape}/{name}/{sharing}/out"], tolerance)
    if sharing == "shared":  # one set, owned by all images
        single = [a[:1] if isinstance(a, torch.Tensor) else a for a in arguments]
        owned = function(x, *single, owner=torch.zeros(len(x), dtype=torch.int64))
        assert_near(owned, out.detach(), 1e-7)
        assert_near(function(x, *single), out.detach(), 1e-7)
    key = f"{shape}/{name}/{sharing}/grad_x"
    if key in dsa:
        (grad,) = torch.autograd.grad(out, x, torch.tensor(dsa[f"{shape}/cotangent"]))
        assert_near(grad, dsa[key], tolerance)


def raw_values(raw, height, width):
    """The reference's raw draws (first element) as values of our operations."""
    t = {k: torch.tensor([float(v)]) for k, v in raw.items()}
    span, low = 1.2 - 1 / 1.2, 1 / 1.2
    hole = (int(height * 0.5 + 0.5), int(width * 0.5 + 0.5))
    return {
        "color": (t["brightness"] - 0.5, t["saturation"] * 2, t["contrast"] + 0.5),
        "crop": (t["crop_rows"].long(), t["crop_cols"].long()),
        "cutout": (t["cutout_rows"].long(), t["cutout_cols"].long(), hole),
        "flip": (t["flip"] < 0.5,),
        "scale": (t["scale_x"] * span + low, t["scale_y"] * span + low),
        "rotate": ((t["rotate"] - 0.5) * 2 * 15 * np.pi / 180,),
    }


COLOR = ("brightness", "saturation", "contrast")
RAW = (*COLOR, "crop_rows", "crop_cols", "cutout_rows", "cutout_cols", "flip")
RAW += ("scale_x", "scale_y", "rotate")


def test_dsa_mode_m(dsa):
    raw = dict(zip(dsa["modeM/raw_order"].tolist(), dsa["modeM/raw_first_element"], strict=True))
    x = torch.tensor(dsa["modeM/x"])
    values = raw_values(raw, *x.shape[2:])
    params = Params(tuple(OPERATIONS), torch.tensor([-1]), values)
    assert_near(apply(x, params), dsa["modeM/out"], 1e-5)


def test_dsa_mode_s(dsa):
    names = str(dsa["modeS/strategy"]).split("_")
    x = torch.tensor(dsa["modeS/x"])
    for i, seed in enumerate(dsa["modeS/out_seeds"].tolist()):
        values = raw_values(reference_draws(names[i], seed, x), *x.shape[2:])
        params = Params(tuple(names), torch.tensor([i]), values)
        assert_near(apply(x, params), dsa["modeS/out"][i], 1e-5)


def reference_draws(name, seed, x):
    """What a CPU generator gives for one group: seed + 1 for its first draw, seed + 2 for the next."""
    raw = dict.fromkeys(RAW, 0.0)
    mine = [key for key in RAW if key.split("_")[0] == name or key in COLOR and name == "color"]
    for step, key in enumerate(mine):
        generator = torch.Generator().manual_seed(
            seed + 1 + step
        )  # the group was chosen with `seed`
        side = x.shape[2 if key.endswith("rows") else 3]
        if name == "crop":
            shift = int(side * 0.125 + 0.5)
            raw[key] = torch.randint(-shift, shift + 1, (len(x),), generator=generator)[0]
        elif name == "cutout":
            high = side + 1 - int(side * 0.5 + 0.5) % 2
            raw[key] = torch.randint(0, high, (len(x),), generator=generator)[0]
        else:
            raw[key] = torch.rand(len(x), generator=generator)[0]
    return raw
