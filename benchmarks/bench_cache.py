"""How long a folder of images takes to read: decoded (empty cache), and again from the cache.

    python benchmarks/bench_cache.py FOLDER              # domain/class/pictures, such as PACS

A round reads the folder into an empty cache and then once more; the images are compared and have to be equal. Each read
is all of `from_folder`: listing the files, checking names, pixels in memory, counts. The operating system keeps files
that were read a moment ago, so this is the time of decoding, not that of a cold disk.
Rows go to `results/cache.csv`, one per round.
"""

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

import torch

from dgdd_nb.data import MultiDomain
from dgdd_nb.folders import from_folder

FILE = Path(__file__).parent / "results" / "cache.csv"
NAMES = ("round", "folder", "images", "side", "decoded_s", "cached_s", "ratio")


def timed(root: Path, size: int, cache: str) -> tuple[float, MultiDomain]:
    "Seconds of a read, and what it gave. The sum touches each page of memory, so that no pixel is still on disk."
    start = time.perf_counter()
    data = from_folder(root, size, cache=cache, quiet=True)
    data.images.view(-1)[::4096].sum()
    return time.perf_counter() - start, data


def measure(root: Path, size: int, rounds: int) -> list[list]:
    "One row per round; the first read, which warms the disk cache of the system, is not among them."
    rows = []
    for number in range(-1, rounds):
        with tempfile.TemporaryDirectory() as cache:
            decoded, first = timed(root, size, cache)
            cached, again = timed(root, size, cache)
        if not torch.equal(first.images, again.images):
            raise SystemExit("The images from the cache are other ones: this is a bug.")
        row = [number, root.resolve().name, len(first), first.size[0]]
        rows.append([*row, round(decoded, 3), round(cached, 3), round(decoded / cached, 1)])
        print(dict(zip(NAMES, rows[-1])), flush=True)
    return rows[1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder with domain/class/pictures")
    parser.add_argument("--size", type=int, default=64, help="side of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of reads")
    parser.add_argument("--out", type=Path, default=FILE, help="where the rows go")
    o = parser.parse_args()
    rows = measure(o.root, o.size, o.rounds)
    with open(o.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([NAMES, *rows])
    decoded, cached = (statistics.median(row[i] for row in rows) for i in (4, 5))
    print(f"decoded {decoded:.2f} s, from the cache {cached:.2f} s (medians of {len(rows)})")


if __name__ == "__main__":
    main()
