"""Places where people run things: a bare environment, a zip file, no network, no home; old sets."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

import dgdd_nb as dg

PACKAGE = Path(dg.__file__).parent
JOB = """
import socket, sys
def refuse(*_): raise OSError("no network here")
socket.socket.connect = refuse
sys.path.insert(0, sys.argv[1])
import torch, dgdd_nb as dg
assert ".zip" in dg.__file__, dg.__file__
torch.set_num_threads(1)
source, target = dg.mini_digits(8, train=40, test=20).leave_out("street")
one = dg.distill(source, dg.DM(), surgery=dg.SGS(), ipc=1, steps=2)
one.save("set")
print(dg.evaluate(dg.DistilledSet.load("set"), target, seeds=2))
"""


def test_from_a_zip_file_in_a_bare_environment(tmp_path):
    archive = tmp_path / "a package.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in PACKAGE.glob("*.*"):
            out.write(path, f"dgdd_nb/{path.name}")
    env = {"PATH": "/nonexistent", "LANG": "C", "HOME": os.devnull, "DGDD_CACHE": str(tmp_path)}
    if os.name == "nt":
        env["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(archive)], cwd=tmp_path, env=env, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert b"% on street (2 networks, recipe quick)" in done.stdout


def test_sets_of_an_earlier_version_load():
    one = dg.DistilledSet.load(Path(__file__).with_name("set_of_0_1_0"))
    assert one.images.shape == (10, 3, 8, 8) and one.images.dtype == torch.float32
    assert one.labels.tolist() == list(range(10))
    assert one.domain_names == ("scan", "photo", "print")
    assert one.recipe["steps"] == 2 and one.recipe["surgery"]["name"] == "SGS"
