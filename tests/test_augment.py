"""Augmentation: laws of the draws, and what applying them must keep."""

import pytest
import torch

from dgdd_nb.augment import DSA, OPERATIONS, apply, draw, strategy_for

DIGITS = DSA(strategy_for("auto", ("0", "1")))
X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_strategies():
    assert DSA().names == tuple(OPERATIONS) and DSA("none").names == DSA("").names == ()
    assert "flip" not in DIGITS.names and len(DIGITS.names) == 5
    assert strategy_for("auto", ("dog", "horse")) == strategy_for("auto") == DSA().strategy
    assert strategy_for("") == "none" and strategy_for("crop", ("0", "1")) == "crop"
    with pytest.raises(ValueError, match="did you mean 'rotate'"):
        strategy_for("color_rotat")


@pytest.mark.parametrize(
    "classes, flips",
    [
        (["0 - zero", "1 - one"], False),  # torchvision's
        (["zero", "one", "two"], False),
        (["digit_0", "digit_1"], False),
        (["digit0", "number 7"], False),
        (["00", "01"], False),
        (list("abcXYZ"), False),
        (["letter_a", "B_upper", "character27"], False),
        (list("\u03b1\u05d0\u0436"), False),
        ([*"abc", "space"], False),
        (["turn left", "turn_right", "stop"], False),
        ([str(i) for i in range(1, 103)], True),  # numbers of flowers
        (["\u732b", "\u72ac"], True),  # one sign, but a word
        (["s1", "s2"], True),
        (["class one hundred", "a cat"], True),
    ],
)
def test_one_way_signs_are_not_mirrored(classes, flips):
    assert ("flip" in strategy_for("auto", classes)) == flips


def test_laws():
    many = draw(DSA(), 20_000, (32, 24), seeded())
    shares = many.operation.bincount() / len(many)
    assert (shares - 1 / 6).abs().max() < 0.012  # 4.5 standard errors
    bounds = [(-0.5, 0.5), (0, 2), (0.5, 1.5), (1 / 1.2, 1.2), (1 / 1.2, 1.2), (-0.2618, 0.2618)]
    real_valued = (*many.values["color"], *many.values["scale"], *many.values["rotate"])
    for v, (low, high) in zip(real_valued, bounds, strict=True):
        assert low <= v.min() < low + 0.01 and high - 0.01 < v.max() <= high
    ends = [(v.min().item(), v.max().item()) for v in many.values["crop"]]
    assert ends == [(-4, 4), (-3, 3)]
    ends = [(v.min().item(), v.max().item()) for v in many.values["cutout"][:2]]
    assert ends == [(0, 32), (0, 24)] and many.values["cutout"][2] == (16, 12)
    odd = draw(DSA(), 5000, (12, 15), seeded()).values["cutout"]
    assert (odd[0].max().item(), odd[1].max().item(), odd[2]) == (12, 15, (6, 8))
    assert draw(DSA(), 9, 32, seeded(3), same_op=True).operation.unique().numel() == 1
    assert set(draw(DSA(mode="M"), 4, 32, seeded()).operation.tolist()) == {-1}


def test_a_draw_leaves_the_global_generator_and_the_other_operations():
    state = torch.get_rng_state()
    full, less = draw(DSA(), 5, 32, seeded(1)), draw(DIGITS, 5, 32, seeded(1))
    assert torch.equal(state, torch.get_rng_state())
    for name in less.names:
        for left, right in zip(less.values[name], full.values[name], strict=True):
            assert left == right if isinstance(left, tuple) else torch.equal(left, right)


def test_apply():
    sets, chain = draw(DSA(mode="M"), 4, 32, seeded(4)), X
    for name in OPERATIONS:
        chain = OPERATIONS[name](chain, *sets.values[name])
    assert torch.allclose(apply(X, sets), chain)
    for strategy in ("", "none", None):
        assert torch.equal(apply(X, draw(strategy, 4, 32, seeded())), X)
    one = draw(DSA(), 1, 32, seeded())
    assert torch.equal(apply(X, one), apply(X, one, torch.zeros(4, dtype=torch.int64)))
    assert apply(X[:0], one).shape == (0, 3, 32, 32)
    for owner in (None, torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(ValueError, match="do not fit 4 images"):
            apply(X, draw(DSA(), 5, 32, seeded()), owner)
