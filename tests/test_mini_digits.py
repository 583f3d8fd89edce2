"""The built-in digits have the same bits everywhere, whatever else is installed."""

import hashlib
from importlib.resources import files

import pytest

from dgdd_nb import mini_digits

BITS = {
    ("scan", 16): "1b090e5e5e03ef4d",
    ("photo", 16): "0d5afd00b71b723a",
    ("street", 16): "343e770e32061045",
    ("print", 16): "6628b1735257bc8a",
    ("scan", 32): "4b3f4b2408886d6d",
    ("photo", 32): "56e8f289ccbd24ad",
    ("street", 32): "dbcd9a4844cf8c6f",
    ("print", 32): "b77039b065849b22",
}


@pytest.mark.parametrize(("domain", "size"), BITS)
def test_the_bits_stay(domain, size):
    images = mini_digits(size=size, train=100, test=50, domains=[domain]).images
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == BITS[domain, size]


def test_the_sheet_of_glyphs_is_small_and_names_its_licences():
    folder = files("dgdd_nb")
    assert len((folder / "glyphs.png").read_bytes()) < 150_000
    text = (folder / "glyphs.txt").read_text(encoding="utf-8")
    assert all(name in text for name in ("Bitstream Vera", "Open Font License", "BaKoMa"))
