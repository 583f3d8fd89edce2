"""The cache of decoded images under real accidents, and the pixels with and without it."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shared import QUICK

from dgdd_nb import images
from dgdd_nb.folders import from_folder
from dgdd_nb.images import cache_files, cache_folder, cached, clear_cache, read_all, read_image

ROOT = Path(__file__).resolve().parents[1]
needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork and signals")


def draw(path: Path, seed: int, side: tuple[int, int] = (6, 8)) -> Path:
    "A picture of random colours."
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*side, 3), dtype=np.uint8)).save(
        path
    )
    return path


@pytest.fixture
def album(tmp_path) -> list[Path]:
    "Twelve pictures in two folders, and a cache of their own."
    return [draw(tmp_path / "album" / f"{i % 2}" / f"{i}.png", i) for i in range(12)]


def read(paths: list[Path], cache: Path, size: tuple[int, int] | None = (6, 8)) -> torch.Tensor:
    "The images from the cache, which have to be those on the disk; no warning."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = cached(paths, size, root=paths[0].parents[1], workers=1, cache=cache)
    assert got.dtype == torch.uint8 and torch.equal(got, read_all(paths, size or (6, 8), workers=1))
    return got


def kept(cache: Path) -> list[str]:
    "What a cache holds."
    return sorted(path.suffix for path in cache_files(cache))


@pytest.fixture
def count(monkeypatch):
    "How many files `cached` has decoded since the last look."
    seen = []
    monkeypatch.setattr(images, "read_image", lambda *a: seen.append(a) or read_image(*a))

    def since(paths: list[Path], cache: Path, **options) -> int:
        seen.clear()
        cached(
            paths,
            options.pop("size", (6, 8)),
            root=paths[0].parents[1],
            workers=1,
            cache=cache,
            **options,
        )
        return len(seen)

    return since


def test_a_second_start_decodes_nothing(album, tmp_path, count):
    cache = tmp_path / "cache"
    assert [count(album, cache) for _ in range(3)] == [12, 0, 0]
    assert (
        count(album, cache, size=(4, 4)) == 12 and count(album, cache) == 0
    )  # two sizes live side by side
    assert count(album[::2], cache) == 6 and count(album, cache) == 0  # and two choices of folders
    assert count(album, cache, size=None) == 12 and count(album, cache, size=None) == 0
    assert (
        count(album[:3], cache, selection="three") == 3
        and count(album[:5], cache, selection="five") == 5
    )
    assert count(album[:3], cache, selection="three") == 0  # two choices within the folders
    assert clear_cache(cache) > 3 * 12 * 6 * 8 and count(album, cache) == 12


@pytest.mark.parametrize(
    "change", ["edited", "touched", "added", "removed", "renamed", "replaced by an older one"]
)
def test_a_changed_source_is_decoded_again(album, tmp_path, count, change):
    cache = tmp_path / "cache"
    read(album, cache)
    if change == "edited":
        draw(album[3], 99)
    elif change == "touched":
        os.utime(album[3], ns=(0, 10**18))
    elif change == "added":
        album.append(draw(album[3].with_name("x.png"), 98))
    elif change == "removed":
        album.pop(3).unlink()
    elif change == "renamed":
        album[3] = album[3].rename(album[3].with_name("y.png"))
    else:
        old = draw(tmp_path / "old.png", 97)
        os.utime(old, ns=(0, 10**15))
        old.replace(album[3])
    assert count(album, cache) == len(album) and count(album, cache) == 0
    read(album, cache)
    assert kept(cache) == [".json", ".npy"], "what is superseded goes"


def test_threads_whatever_surrounds_the_call(album):
    """Within a block that asks joblib for processes, pixels must still arrive in this one."""
    want = read_all(album, (6, 8), workers=1)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert torch.equal(read_all(album, (6, 8), workers=2), want)


def test_a_file_that_changes_during_the_build_is_not_kept(album, tmp_path, monkeypatch):
    def meddle(paths, size, workers):
        draw(album[0], 96)
        return read_all(paths, size, workers)

    monkeypatch.setattr(images, "read_all", meddle)
    cached(album, (6, 8), root=album[0].parents[1], cache=tmp_path / "cache")
    assert kept(tmp_path / "cache") == []


@QUICK
@given(st.data())
def test_no_damaged_file_is_trusted(tmp_path_factory, data):
    home = tmp_path_factory.mktemp("damage")
    album = [draw(home / "album" / "0" / f"{i}.png", i) for i in range(3)]
    want = read(album, home / "cache").clone()
    file = data.draw(st.sampled_from(list(cache_files(home / "cache"))))
    blob = bytearray(file.read_bytes())
    how = data.draw(st.sampled_from(["cut", "flip", "grow", "other"]))
    place = data.draw(st.integers(0, len(blob) - 1))
    if how == "cut":
        del blob[place:]
    elif how == "flip":
        blob[place] ^= data.draw(st.integers(1, 255))
    elif how == "grow":
        blob += data.draw(st.binary(min_size=1, max_size=9))
    else:
        blob = data.draw(st.binary(max_size=200))
    file.write_bytes(blob)
    assert torch.equal(read(album, home / "cache"), want) and torch.equal(
        read(album, home / "cache"), want
    )


@QUICK
@given(st.integers(1, 5), st.sampled_from([None, (6, 8), (3, 5)]), st.booleans())
def test_same_bits_with_and_without_a_cache(tmp_path_factory, n, size, mapped):
    home = tmp_path_factory.mktemp("bits")
    album = [draw(home / "album" / "0" / f"{i}.jpg", i) for i in range(n)]
    limit, images.IN_MEMORY = images.IN_MEMORY, 0 if mapped else images.IN_MEMORY
    try:
        first, second = (read(album, home / "cache", size) for _ in range(2))
        second += 1  # a copy: the file stays as it is
        assert torch.equal(read(album, home / "cache", size), first)
    finally:
        images.IN_MEMORY = limit


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dgdd_nb import files, images

album, cache = sorted(Path(sys.argv[1]).rglob("*.png")), Path(sys.argv[2])
build = lambda: images.cached(album, (6, 8), root=album[0].parents[1], workers=1, cache=cache)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half_written(out, header):
    out.write(b"half a header")
    out.flush()
    die()

read, rename = images.read_image, os.replace
calls = iter(range(100))
places = {
    "decoding": lambda: setattr(images, "read_image", lambda *a: die() if next(calls) == 5 else read(*a)),
    "half written": lambda: setattr(np.lib.format, "write_array_header_1_0", half_written),
    "before the rename": lambda: setattr(os, "replace", die),
    "after the rename": lambda: setattr(os, "replace", lambda *a: (rename(*a), die())),
    "before the card": lambda: setattr(images, "write_json", die),
}
for place, prepare in places.items():
    images.clear_cache(cache)
    child = os.fork()
    if child == 0:
        prepare()
        build()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), place
    left = [p.suffix for p in images.cache_files(cache)]
    right = images.read_all(album, (6, 8), workers=1)
    for start in range(2):
        assert (build() == right).all(), place
    print(place, *left)
"""

TWO_AT_ONCE = """
import os, sys
from pathlib import Path
from dgdd_nb import images

album, cache = sorted(Path(sys.argv[1]).rglob("*.png")), Path(sys.argv[2])
right = images.read_all(album, (6, 8), workers=1)
children = []
for number in range(3):
    children.append(os.fork())
    if children[-1] == 0:
        for again in range(20):
            got = images.cached(album, (6, 8), root=album[0].parents[1], workers=1, cache=cache)
            if not (got == right).all():
                os._exit(1)
            if again % 5 == number:
                for path in images.cache_files(cache):          # what is finished goes, at any moment
                    if path.suffix != ".part":
                        path.unlink(missing_ok=True)
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
images.cached(album, (6, 8), root=album[0].parents[1], workers=1, cache=cache)
images.read_all = None
got = images.cached(album, (6, 8), root=album[0].parents[1], workers=1, cache=cache)
assert (got == right).all()
"""

FULL = """
import resource, sys, warnings
from pathlib import Path
from dgdd_nb import images

album, cache = sorted(Path(sys.argv[1]).rglob("*.png")), Path(sys.argv[2])
right = images.read_all(album, (6, 8), workers=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))           # no file longer than 500 bytes
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    got = images.cached(album, (6, 8), root=album[0].parents[1], workers=1, cache=cache)
assert (got == right).all() and len(caught) == 1
print(caught[0].message, list(cache.iterdir()))
"""


def python(script: str, *arguments: object) -> str:
    "Run a script in a fresh interpreter with one thread; what it prints."
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_posix
def test_a_build_killed_anywhere_leaves_nothing_half(album, tmp_path):
    lines = python(KILLED, album[0].parents[1], tmp_path / "cache").splitlines()
    assert lines == [
        "decoding",
        "half written .part",
        "before the rename .part",
        "after the rename .npy",
        "before the card .npy",
    ]


@needs_posix
def test_several_processes_at_once(album, tmp_path):
    python(TWO_AT_ONCE, album[0].parents[1], tmp_path / "cache")


@needs_posix
def test_a_full_disk_costs_the_cache_only(album, tmp_path):
    said = python(FULL, album[0].parents[1], tmp_path / "cache")
    assert "could not be kept" in said and "DGDD_CACHE" in said and said.endswith("[]\n")


def test_old_leftovers_go_young_ones_stay(album, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    names = [f".dgdd-{digit * 64}.npy.0123abcd.part" for digit in "ab"]
    for name in (*names, "mine.npy", "dgdd-short.json"):
        (cache / name).write_bytes(b"x")
    os.utime(cache / names[0], (0, 0))
    read(album, cache)
    assert sorted(p.name for p in cache.iterdir() if not p.name.startswith("dgdd-")) == [
        names[1],
        "mine.npy",
    ]
    clear_cache(cache)
    assert sorted(p.name for p in cache.iterdir()) == ["dgdd-short.json", "mine.npy"]


@pytest.mark.parametrize("kind", ["a file in the way", "read only"])
def test_a_folder_that_cannot_be_written_costs_the_cache_only(album, tmp_path, kind):
    cache = tmp_path / "cache"
    if kind == "read only":
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            pytest.skip("the super-user may write everywhere")
        cache.mkdir(mode=0o500)
    else:
        cache.write_text("here")
    with pytest.warns(
        UserWarning, match="could not be kept in .*; name another folder in DGDD_CACHE"
    ):
        got = cached(album, None, root=album[0].parents[1], cache=cache)
    assert torch.equal(got, read_all(album, (6, 8)))
    if kind == "read only":  # what lies there already is read
        cache.chmod(0o700)
        read(album, cache)
        cache.chmod(0o500)
        read(album, cache)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("DGDD_CACHE", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x"
    monkeypatch.delenv("DGDD_CACHE")
    if os.name == "nt":
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dgdd_nb"


def test_a_folder_of_domains_is_decoded_once(tmp_path, capsys, count):
    for i, name in enumerate(("photo/dog", "photo/cat", "sketch/dog", "sketch/cat")):
        draw(tmp_path / "pets" / name / "0.png", i)
    first = from_folder(tmp_path / "pets", cache=tmp_path / "cache")
    images.read_image = None  # the fixture puts it back
    again = from_folder(tmp_path / "pets", cache=tmp_path / "cache")
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :]
