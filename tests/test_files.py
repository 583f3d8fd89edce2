"""Files under real accidents: processes killed while they save, full disks, folders of others."""

import errno
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import pytest
import safetensors.torch
import torch
from shared import ROOT, needs_posix, python

from dgdd_nb import files
from dgdd_nb.files import derive_seed, load_settings, settings_dict, write_json


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name, text", [("a.toml", "x = 1\r\n"), ("a.json", '{\r\n"x": 1}')])
def test_settings_as_windows_editors_write_them(tmp_path, name, text, coding):
    (tmp_path / name).write_bytes(text.encode(coding))
    assert files.read_json(tmp_path / name) == {"x": 1}
    (tmp_path / name).write_bytes("# \xe9".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{name} is not a text in UTF-8"):
        files.read_json(tmp_path / name)


def test_paths_as_users_write_them(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE", "PLACE"):
        monkeypatch.setenv(name, str(tmp_path))
    write_json("~/a.json", 1)
    files.save_tensors("$PLACE/x.safetensors", {"x": torch.ones(2)}, {"kind": "x"})
    assert files.read_json("$PLACE/a.json") == 1
    assert files.load_tensors("~/x.safetensors")[0]["x"].sum() == 2
    assert str(files.user_path("a$b c/~x")) == os.path.join("a$b c", "~x")


KILLED_AT_A_PLACE = """
import os, signal, sys
from pathlib import Path
import torch
from dgdd_nb import files

path, big = Path(sys.argv[1]) / "x.safetensors", 200_000
save = lambda value: files.save_tensors(path, {"x": torch.full((big,), value)}, {"value": value})

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half_written(self, data):
    with open(self, "wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        die()

replace = os.replace
places = {
    "half written": lambda: setattr(Path, "write_bytes", half_written),
    "before the flush": lambda: setattr(os, "fsync", die),
    "before the rename": lambda: setattr(os, "replace", die),
    "after the rename": lambda: setattr(os, "replace", lambda *a: (replace(*a), die())),
}
for place, prepare in places.items():
    save(1.0)
    child = os.fork()
    if child == 0:
        prepare()
        save(2.0)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), place
    tensors, meta = files.load_tensors(path)
    assert (tensors["x"] == meta["value"]).all()
    print(place, meta["value"], len(os.listdir(path.parent)))
"""


@needs_posix
def test_killed_at_every_place_of_a_save(tmp_path: Path) -> None:
    lines = python(KILLED_AT_A_PLACE, tmp_path).splitlines()
    assert lines == [
        "half written 1.0 2",  # the old file, and a leftover beside it
        "before the flush 1.0 3",
        "before the rename 1.0 4",
        "after the rename 2.0 4",  # the new file
    ]


FULL = """
import resource, sys
from pathlib import Path
import torch
from dgdd_nb import files

path = Path(sys.argv[1]) / "x.safetensors"
files.save_tensors(path, {"x": torch.zeros(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # no file may grow beyond 4 kB
try:
    files.save_tensors(path, {"x": torch.zeros(10_000)}, {})
except OSError as error:
    print(error)
assert len(files.load_tensors(path)[0]["x"]) == 10
print(sorted(other.name for other in path.parent.iterdir()))
"""


@needs_posix
def test_no_room_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    sentence, names = python(FULL, tmp_path).splitlines()
    assert "could not be written" in sentence
    assert "free some space or choose another folder" in sentence
    assert names == "['x.safetensors']"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_place_that_may_not_be_written(tmp_path: Path, code: int) -> None:
    sentence = "could not be written.*folder that you may write to"
    failing = patch("os.fsync", side_effect=OSError(code, os.strerror(code)))
    with failing, pytest.raises(OSError, match=sentence):
        write_json(tmp_path / "x.json", 1)
    assert not list(tmp_path.iterdir())


KILLED_SET = """
import os, signal, sys
from pathlib import Path
import torch
from dgdd_nb import distilled, files
from dgdd_nb.data import Normalisation
from dgdd_nb.distilled import DistilledSet

folder = Path(sys.argv[1]) / "set"

def make(value):
    tags = torch.tensor([0, 1])
    look = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    images = torch.full((2, 3, 4, 4), float(value))
    return DistilledSet(images, tags, tags, ("a", "b"), ("x", "y"), look, {"value": value})

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

places = {
    "tensors": lambda: setattr(os, "replace", die),
    "pictures": lambda: setattr(distilled, "_write_pictures", die),
    "exchange": lambda: setattr(Path, "rename", die),
    "commit": lambda: setattr(Path, "replace", die),
    "tidying": lambda: setattr(distilled.shutil, "rmtree", lambda *a, **k: list(a[0].glob("*")) and die()),
}
for place, prepare in places.items():
    make(1).save(folder)
    child = os.fork()
    if child == 0:
        prepare()
        make(2).save(folder)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), place
    found = DistilledSet.load(folder)
    assert (found.images == found.recipe["value"]).all()
    card = folder / "card.json"
    fits = not card.exists() or files.read_json(card)["recipe"] == found.recipe
    print(place, found.recipe["value"], fits)
make(3).save(folder)  # the next save tidies up
print(*sorted(os.listdir(folder)))
"""


@needs_posix
def test_distilled_set_killed_while_saving(tmp_path: Path) -> None:
    lines = python(KILLED_SET, tmp_path).splitlines()
    places = ("tensors 1", "pictures 1", "exchange 1", "commit 1", "tidying 2")
    assert lines[:5] == [f"{place} True" for place in places]
    left = [name for name in lines[5].split() if not name.endswith(".part")]
    assert left == ["card.json", "distilled.safetensors", "pictures"]


def test_light_imports() -> None:
    script = (
        "import sys, dgdd_nb.files, dgdd_nb.distilled; "
        "print(*{'matplotlib', 'sklearn', 'PIL', 'ipywidgets', 'joblib', 'typer', 'pydantic', 'pandas'}"
        " & {*sys.modules})"
    )
    assert python(script).split() == []


@dataclass(frozen=True)
class Part:
    alpha: float = 1.0
    reading: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Other:
    x: int = 1


@dataclass(frozen=True)
class Corner:
    need: int
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    either: Part | Other | None = None
    number: float | int = 1
    path: Path = Path(".")
    flag: bool = False
    names: list[str] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    plug: str | dict[str, Any] = "DM"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    loose: tuple = ()
    anything: Any = None
    choice: Literal["x", 3] | None = None

    def __post_init__(self) -> None:
        if self.need < 1:
            raise ValueError("The need must be at least 1.")


GOOD = [
    ("part", None, None),
    ("part", {"alpha": 2}, Part(2.0)),
    ("part", Part(), Part()),
    ("parts", [{"alpha": 2}, {}], (Part(2.0), Part())),
    ("either", {"x": 2}, Other(2)),
    ("either", {"alpha": 2}, Part(2.0)),
    ("number", 3, 3),
    ("number", 0.5, 0.5),
    ("path", "a/b", Path("a/b")),
    ("flag", np.bool_(True), True),
    ("names", ("a", "b"), ["a", "b"]),
    ("table", {"a": 1}, {"a": 1.0}),
    ("plug", {"name": "SGS", "alpha": 0.5}, {"name": "SGS", "alpha": 0.5}),
    ("mean", [0, 0.5, 1], (0.0, 0.5, 1.0)),
    ("loose", [1, "a"], (1, "a")),
    ("anything", [None], [None]),
    ("choice", 3, 3),
    ("need", np.int64(4), 4),
    ("need", 2**63, 2**63),
]
BAD = [
    ("need", True, "'need' should be a whole number, but is True (bool)."),
    ("need", None, "'need' should be a whole number, but is None"),
    ("need", "3", "'need' should be a whole number, but is '3' (str)."),
    ("need", 3.0, "'need' should be a whole number, but is 3.0 (float)."),
    ("need", 0, "The need must be at least 1."),
    ("need", torch.zeros(2), "Corner.need is a Tensor"),
    ("part", 3, "'part' should be a table"),
    ("part", {"alfa": 1}, "Part has no setting 'part.alfa' (did you mean 'alpha'?): it has alpha"),
    ("parts", [{}, {"alfa": 1}], "Part has no setting 'parts[1].alfa' (did you mean 'alpha'?)"),
    ("part", {"reading": "c"}, "'part.reading' should be 'a' or 'b', but is 'c'"),
    ("either", {"y": 1}, "no setting 'either.y'"),
    ("number", "x", "should be a number or a whole number, but is 'x'"),
    ("flag", 1, "'flag' should be true or false"),
    ("names", ["a", 3], "'names[1]' should be a text"),
    ("names", "ab", "'names' should be a list"),
    ("table", {"a": "x"}, "'table.a' should be a number"),
    ("table", [1], "'table' should be a table"),
    ("plug", 3, "'plug' should be a text or a table"),
    ("mean", [0.5], "'mean' should be a longer list"),
    ("mean", [0.5] * 4, "'mean' should be a shorter list"),
    ("choice", "y", "'choice' should be 'x' or 3"),
    ("path", 3, "'path' should be a text"),
    ("neet", 3, "Corner has no setting 'neet' (did you mean 'need'?): it has need, part,"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), GOOD, ids=str)
def test_settings_that_are_read(name: str, value: object, wanted: object) -> None:
    made = load_settings(Corner, {"need": 1, name: value})
    assert getattr(made, name) == wanted and type(getattr(made, name)) is type(wanted)
    assert load_settings(Corner, settings_dict(made)) == made


@pytest.mark.parametrize(("name", "value", "sentence"), BAD, ids=str)
def test_settings_that_are_refused(name: str, value: object, sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        load_settings(Corner, {"need": 1}, **{name: value})
    told = str(caught.value)
    assert sentence in told and told[0].isupper() and told.endswith(".") and "\n" not in told
    assert type(caught.value) in (ValueError, TypeError)  # none of pydantic's own
    if not isinstance(value, (np.generic, torch.Tensor)):
        path = tmp_path / "run.json"
        write_json(path, {"need": 1, name: value})
        with pytest.raises(type(caught.value)) as caught:
            load_settings(Corner, path)
        assert str(caught.value) == f"{path}: {told}"


def test_settings_from_files(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbfneed = 2\r\n[part]\r\nalpha = 3\r\n")  # of a Windows editor
    made = load_settings(Corner, str(path), part={"reading": "b"}, flag=True)
    assert made == Corner(2, Part(3.0, "b"), flag=True)
    with pytest.raises(ValueError, match="needs the setting 'need'"):
        load_settings(Corner)
    for name, text, sentence in (
        ("bad.toml", "need =", "bad.toml is not valid TOML"),
        ("bad.json", "{", "bad.json is not valid JSON.*line 1"),
        ("list.json", "[1]", "should hold a table"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=sentence):
            load_settings(Corner, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="did you mean 'run.toml'"):
        load_settings(Corner, tmp_path / "rum.toml")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.bfloat16, torch.float64], ids=str)
def test_tensors_of_any_shape_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    base, path = torch.arange(12.0).reshape(3, 4), tmp_path / "types.safetensors"
    stored = {"a": base.to(dtype).T, "b": base.to(dtype)[0, 0], "c": base.to(dtype)[:0], "d": base}
    stored |= {"e": base, "f": base[:, 1], "g": base.clone().requires_grad_()}
    digest, first = files.save_tensors(path, stored, {"value": 0.1, "name": "ü"}), path.read_bytes()
    assert digest == files.save_tensors(path, stored, {"value": 0.1, "name": "ü"})
    loaded, meta = files.load_tensors(path, device="auto")
    assert first == path.read_bytes() and meta == {"value": 0.1, "name": "ü"}
    for name, tensor in stored.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name].cpu(), tensor)
    loaded["a"].zero_()  # its own memory, writable


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    tensors, meta = files.load_tensors(ROOT / "tests" / "referee.safetensors", "referee")
    assert "DM 16" in tensors and "torch" in meta
    with pytest.raises(ValueError, match="meta.x is inf"):
        files.save_tensors(tmp_path / "x.safetensors", {}, {"x": float("inf")})


def test_leftovers_links_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "result.json"
    write_json(path, 1)  # folders are made on the way
    for name, age in (("old", 7200), ("fresh", 60)):
        leftover = path.with_name(f".result.json.{name}.part")
        leftover.write_text("half")
        os.utime(leftover, (time.time() - age,) * 2)
    (tmp_path / "link.json").symlink_to(path)
    write_json(tmp_path / "link.json", 2)
    assert (tmp_path / "link.json").is_symlink() and files.read_json(path) == 2
    assert sorted(os.listdir(path.parent)) == [".result.json.fresh.part", "result.json"]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert files.pick_device() == torch.device("cuda")
    assert files.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(RuntimeError, match="there are 2"):
        files.pick_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert files.pick_device() == files.pick_device("cpu:0") == torch.device("cpu")
    with pytest.raises(RuntimeError, match="No mps device"):
        files.pick_device("mps")
    with pytest.raises(ValueError, match="Unknown device 'cuda:x'"):
        files.pick_device("cuda:x")


def test_seeds() -> None:
    seeds = {derive_seed(s, name, t) for s in range(5) for name in ("a", "b") for t in range(1000)}
    assert len(seeds) == 10_000 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "a/2", 3) != derive_seed(1, "a", 3) != derive_seed(-1, "a", 3)
    with pytest.raises(TypeError):
        derive_seed(0.5, "network")


@pytest.mark.parametrize("stamp", [None, [], 3, {}, {"version": 1}, {"version": 1, "meta": None}])
def test_stamps_that_are_none(tmp_path: Path, stamp: object) -> None:
    path = tmp_path / "x.safetensors"
    blob = safetensors.torch.save({"x": torch.ones(2)}, {"dgdd_nb": json.dumps(stamp)})
    path.write_bytes(blob)
    with pytest.raises(ValueError, match="was not written by dgdd_nb"):
        files.load_tensors(path)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    path, side = tmp_path / "x.safetensors", 60 * 2**30
    header = {"x": {"dtype": "U8", "shape": [side], "data_offsets": [0, side]}}
    text = json.dumps(header).encode()
    for length in (len(text), side):
        path.write_bytes(length.to_bytes(8, "little") + text)
        with pytest.raises(ValueError, match="is damaged"):
            files.load_tensors(path)


def test_a_folder_is_tried_before_the_work_and_held_by_one(tmp_path: Path) -> None:
    assert not list(files.try_folder(tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for place in ("file", "file/inside"):
        with pytest.raises(OSError, match=f"{place} could not be written.*check the path"):
            files.try_folder(tmp_path / place)
    refused = pytest.raises(ValueError, match="Another process works in .*: name another folder.")
    with files.hold(tmp_path / "run"), refused, files.hold(tmp_path / "run"):
        pass
    with files.hold(tmp_path / "run"):  # free again
        pass


@needs_posix
def test_signals_that_ask_to_stop() -> None:
    heard: list[int] = []
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with files.on_stop(heard.append), files.on_stop(heard.append):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
    signal.signal(signal.SIGHUP, ignored)
    assert heard == [signal.SIGINT, signal.SIGTERM]
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
