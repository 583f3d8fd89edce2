"""Pictures of the sets that a study made, one small PNG each: a row per class, true colours, nothing rescaled.

    python benchmarks/pictures.py results/main_mini                   # DM and DM + SGS, seed 0, two targets

Only for data whose images may be passed on, such as the built-in digits. The PNGs go to `results/pictures/`.
"""

import argparse
import re
from pathlib import Path

from torchvision.utils import make_grid, save_image

from dgdd_nb.distilled import DistilledSet
from dgdd_nb.study import stored

PLACE = Path(__file__).parent / "results" / "pictures"


def plain(name: str) -> str:
    "A name for a file."
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of a study")
    parser.add_argument(
        "--methods", nargs="+", default=["DM", "DM + SGS"], help="rows of its table"
    )
    parser.add_argument(
        "--targets", nargs="+", default=["street", "photo"], help="domains left out"
    )
    parser.add_argument("--seed", type=int, default=0, help="distillation seed")
    o = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    sets = {path.name.rsplit("_", 1)[0]: path for path in (o.folder / "sets").iterdir()}
    for found in (found["trial"] for found in stored(o.folder)[1]):
        if (
            found["method"]["name"] not in o.methods
            or found["seed"] != o.seed
            or found["target"] not in o.targets
        ):
            continue
        name = f"{plain(found['target'])}_{plain(found['method']['name'])}"
        made = DistilledSet.load(sets[f"{name}_ipc{found['ipc']}_seed{o.seed}"])
        order = (made.hard_labels * 1000 + made.domains).argsort(
            stable=True
        )  # classes, then domains
        sheet = make_grid(made.pictures()[order] / 255, nrow=found["ipc"], padding=1, pad_value=1.0)
        save_image(sheet, PLACE / f"{o.folder.name}_{name}.png")
        print(PLACE.name, f"{o.folder.name}_{name}.png")


if __name__ == "__main__":
    main()
