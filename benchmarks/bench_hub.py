"""How fast 10,000 JPEG files of 227 pixels become images of 64: from folders, from Parquet, on one core and on two.

    python benchmarks/bench_hub.py                       # a minute or two; wants two free cores

The pictures are crops of scikit-learn's two photographs with noise of their own, stored by Pillow with quality 92. Both
readers decode every picture (no cache), and their images are compared. Each read is a process of its own, bound to so many
cores, and says how much memory it held at most beyond what it held before, less the finished array.
Rows go to `results/hub.csv`.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "results" / "hub.csv"
NAMES = ("form", "cores", "images", "seconds", "images_per_s", "extra_MB")


def write(home: Path, count: int) -> None:
    "The same files as folders and as Parquet, by the library itself."
    import datasets
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs, dice = load_sample_images().images, np.random.default_rng(0)
    files, labels, domains = [], [], []
    for i in range(count):
        x, (top, left) = photographs[i % 2], dice.integers(0, 200, 2)
        x = x[top : top + 227, left : left + 227].astype(int) + dice.integers(-8, 9, (227, 227, 1))
        labels.append(f"class_{i % 7}")
        domains.append(f"domain_{i // 7 % 4}")
        files.append(home / "folders" / domains[-1] / labels[-1] / f"{i:05d}.jpg")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(files[-1], quality=92)
    features = {"image": datasets.Image(), "domain": datasets.Value("string")}
    features = datasets.Features(**features, label=datasets.Value("string"))
    inside = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    columns = {"image": inside, "domain": domains, "label": labels}
    (home / "parquet").mkdir()
    order = sorted(range(count), key=lambda i: files[i])
    table = datasets.Dataset.from_dict(columns, features=features).select(order)
    table.to_parquet(str(home / "parquet" / "train.parquet"))


def most_memory() -> float:
    "The most memory that this process has held, in MiB (Linux)."
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def read(place: str, cores: int) -> dict:
    "One read in this process: seconds, most memory beyond the finished array, a digest."
    import hashlib

    import torch

    from dgdd_nb.folders import from_folder

    if Path(place).name == "parquet":
        import datasets  # noqa: F401  its import is not the reading
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(1)
    before, start = most_memory(), time.perf_counter()
    data = from_folder(place, 64, cache=False, quiet=True, workers=cores)
    seconds = time.perf_counter() - start
    extra = most_memory() - before
    digest = hashlib.sha256(data.images.numpy()).hexdigest()
    return {"seconds": seconds, "extra": extra - data.images.nbytes / 2**20, "digest": digest}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="pictures")
    parser.add_argument("--out", type=Path, default=FILE, help="where the rows go")
    parser.add_argument("--read", nargs=2, help="(used by the script itself)")
    o = parser.parse_args()
    if o.read:
        print(json.dumps(read(o.read[0], int(o.read[1]))))
        return
    rows, digests = [], set()
    with tempfile.TemporaryDirectory() as home:
        write(Path(home), o.count)
        for form in ("folders", "parquet"):
            for cores in (1, 1, 2):  # the first warms the disk cache of the system
                words = [sys.executable, __file__, "--read", f"{home}/{form}", str(cores)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                digests.add(found["digest"])
                seconds = round(found["seconds"], 2)
                row = [
                    form,
                    cores,
                    o.count,
                    seconds,
                    round(o.count / seconds),
                    round(found["extra"]),
                ]
                print(dict(zip(NAMES, row)), flush=True)
                rows.append(row)
            del rows[-3]
    if len(digests) > 1:
        raise SystemExit("The two forms gave other images: this is a bug.")
    with open(o.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([NAMES, *rows])


if __name__ == "__main__":
    main()
