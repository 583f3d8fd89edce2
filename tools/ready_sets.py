"""Make the distilled sets that come with the package, dgdd_nb/sets/: about two minutes on one core.

    python tools/ready_sets.py            make them anew (bits may differ on another machine)

Ten images per class of the built-in digits, 1000 steps, seed 0; the domain street is left out.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

from books import ROOT, command_line

SETS = ROOT / "dgdd_nb" / "sets"


def main() -> int:
    """Distil, halve the precision, drop what only the run needs, save with a card."""
    command_line(__doc__).parse_args()
    sys.path.insert(0, str(ROOT))
    import dgdd_nb as dg

    source, _ = dg.mini_digits(size=16).leave_out("street")
    for name, surgery in {"digits-dm": None, "digits-sgs": dg.SGS()}.items():
        made = dg.distill(source, dg.DM(), surgery, ipc=10, steps=1000, seed=0, progress=False)
        licence = "the pictures are drawn by dgdd_nb, Apache-2.0"
        recipe = made.recipe | {"licence": licence, "unseen domain": "street"}
        shutil.rmtree(SETS / name, ignore_errors=True)
        small = replace(made, images=made.images.half(), recipe=recipe, history=None)
        folder = small.save(SETS / name, pictures=False)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder.relative_to(ROOT)}: {len(small)} images, {size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
