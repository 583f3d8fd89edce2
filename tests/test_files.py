"""Files under real accidents: processes killed while they save, full disks, folders of others."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork and signals")


def python(script: str, *arguments: object) -> str:
    "Run a script in a fresh interpreter and return what it prints."
    command = [sys.executable, "-c", script, *map(str, arguments)]
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )  # several do not survive a fork
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=120
    ).stdout


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


KILLED_AT_ANY_TIME = """
import os, signal, sys, time
from pathlib import Path
import torch
from dgdd_nb import files

path = Path(sys.argv[1]) / "x.safetensors"

def save(value):
    files.save_tensors(path, {"x": torch.full((500_000,), float(value))}, {"value": value})

save(0)
seen = set()
for kill in range(12):
    child = os.fork()
    if child == 0:
        for value in range(1000 * kill, 1000 * kill + 1000):
            save(value)
        os._exit(0)
    time.sleep(0.03 + 0.013 * kill)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    tensors, meta = files.load_tensors(path)
    assert (tensors["x"] == meta["value"]).all()
    seen.add(meta["value"])
print(len(seen))
"""


@needs_posix
def test_killed_at_any_time(tmp_path: Path) -> None:
    assert int(python(KILLED_AT_ANY_TIME, tmp_path)) >= 3  # saves did happen between the kills


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


FOLDER_OF_OTHERS = """
import os, sys
from pathlib import Path
import torch
from dgdd_nb import files

path = Path(sys.argv[1]) / "x.safetensors"
files.save_tensors(path, {"x": torch.zeros(10)}, {})
path.parent.chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    files.save_tensors(path, {"x": torch.zeros(20)}, {})
except PermissionError as error:
    print(error)
"""


@needs_posix
def test_folder_without_permission() -> None:
    with tempfile.TemporaryDirectory() as workspace:
        Path(workspace).chmod(0o755)  # else the folder inside could not even be found
        sentence = python(FOLDER_OF_OTHERS, Path(workspace) / "locked")
        (Path(workspace) / "locked").chmod(0o755)
    assert "could not be written" in sentence and "folder that you may write to" in sentence


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
    "card": lambda: setattr(distilled, "write_json", die),
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
    print(place, found.recipe["value"])
make(3).save(folder)  # the next save tidies up
print(*sorted(os.listdir(folder)))
"""


@needs_posix
def test_distilled_set_killed_while_saving(tmp_path: Path) -> None:
    lines = python(KILLED_SET, tmp_path).splitlines()
    assert lines[:4] == ["tensors 1", "pictures 2", "exchange 2", "card 2"]
    left = [name for name in lines[4].split() if not name.endswith(".part")]
    assert left == ["card.json", "distilled.safetensors", "pictures"]


def test_light_imports() -> None:
    script = (
        "import sys, dgdd_nb.files, dgdd_nb.distilled; "
        "print(*{'matplotlib', 'sklearn', 'PIL', 'ipywidgets', 'joblib', 'typer'} & {*sys.modules})"
    )
    assert python(script).split() == []


def test_rows_of_a_stored_table(tmp_path):
    from dgdd_nb.files import read_csv

    (tmp_path / "a.csv").write_text('name,n\r\n"x, y",1\r\n', encoding="utf-8", newline="")
    assert read_csv(tmp_path / "a.csv") == [{"name": "x, y", "n": "1"}]
    assert read_csv(tmp_path / "none.csv") == []
