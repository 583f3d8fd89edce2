"""Execute notebooks and store their outputs, so that a second run leaves no diff.

    python tools/refresh.py                    every notebook of nbs/
    python tools/refresh.py 12 surgery         those whose names contain a word
    python tools/refresh.py --run              execute and store nothing (needs no nbdev)
    python tools/refresh.py --check            run nothing, only say which files are not clean
    python tools/refresh.py --flags "slow data" surgery   also run cells with these flags, as a test

Each notebook runs in a fresh kernel, in its own folder, with one thread (repeatable numbers). An
error stops it and leaves the file as it was. Of an explorer the page is kept, no widget state.
Cells flagged `slow`, `gpu` or `data` are skipped and never store an output, with or without
--flags: the files are the same on every machine, with or without real data beside the repository.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from books import NBS, ROOT, command_line, joined, notebooks, read, write

FLAGS = ("slow", "gpu", "data")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|work|Users|mnt|var)/[\w./-]+")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def directives(source: str) -> dict[str, str]:
    """The `#| key: value` lines at the top of a cell; a bare flag has the value ''."""
    found = {}
    for line in joined(source).splitlines():
        line = line.strip()
        if line.startswith("#|"):
            key, _, value = line[2:].strip().partition(":")
            words = key.split()
            if words:
                found[words[0]] = value.strip() or " ".join(words[1:])
        elif line:
            break
    return found


def flagged(cell: dict) -> set[str]:
    """The flags of a cell that keep it from running by default."""
    return set(FLAGS) & set(directives(cell["source"])) if cell["cell_type"] == "code" else set()


def runs(cell: dict, flags: set[str]) -> bool:
    """Whether a cell is executed: not the export cell, not `eval: false`, no flag that was not asked."""
    source = joined(cell["source"])
    if "nbdev_export(" in source or directives(source).get("eval", "").lower() == "false":
        return False
    return flagged(cell) <= flags


def find(words: list[str]) -> list[Path]:
    """The notebooks whose names contain one of the words (all of them without a word)."""
    chosen = [
        path
        for path in notebooks()
        if not words or any(Path(word).stem in path.stem for word in words)
    ]
    if not chosen:
        sys.exit(f"No notebook in {NBS.name}/ has a name with {' or '.join(words)} in it.")
    return chosen


def stored(outputs: list[dict]) -> list[dict]:
    """The outputs worth keeping: no stderr, of a widget its page alone, neighbouring prints as one."""
    kept: list[dict] = []
    for out in outputs:
        widget = out.get("data", {}).pop(WIDGET_VIEW, None) is not None
        if out.get("name") == "stderr" or widget and "text/html" not in out["data"]:
            continue
        if kept and out.get("name") and kept[-1].get("name") == out["name"]:
            text = joined(kept[-1]["text"]) + joined(out["text"])
            kept[-1]["text"] = text.splitlines(keepends=True)
        else:
            kept.append(out)
    return kept


def tidy(nb: dict) -> str:
    """The text of the notebook as it is committed: stripped, then cleaned by nbdev."""
    from nbdev.clean import clean_nb

    nb = copy.deepcopy(nb)
    nb["metadata"].pop("widgets", None)
    for cell in nb["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = stored(cell["outputs"]) if runs(cell, set()) else []
    clean_nb(nb, clean_ids=True)
    return json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def execute(path: Path, flags: set[str], limit: int) -> tuple[dict, str]:
    """Run one notebook in a fresh kernel: its content with outputs, and what it wrote to stderr."""
    import nbformat
    from nbclient import NotebookClient

    class Client(NotebookClient):
        async def async_execute_cell(self, cell, cell_index, **kwargs):
            if cell.cell_type == "code" and not runs(cell, flags):
                return cell
            return await super().async_execute_cell(cell, cell_index, **kwargs)

    nb = nbformat.read(path, 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nb.metadata.pop("widgets", None)
    quiet = ["--IPKernelApp.log_level=40"]  # errors only: not that it listens on this machine
    Client(
        nb,
        timeout=limit,
        kernel_name="python3",
        extra_arguments=quiet,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    noise = "".join(
        joined(out["text"])
        for cell in nb.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.get("name") == "stderr"
    )
    return json.loads(nbformat.writes(nb)), noise


def refresh(
    path: Path, flags: set[str], limit: int, store: bool = True
) -> tuple[Path, str, str, float]:
    """Execute and store one notebook: (path, problem or '', what happened, seconds)."""
    os.environ.update(dict.fromkeys(THREADS, "1"), PYTHONHASHSEED="0")
    start = time.perf_counter()
    try:
        nb, noise = execute(path, flags, limit)
    except Exception as error:  # the kernel's own errors have many types; all of them are failures
        return path, f"{type(error).__name__}: {error}", "failed", time.perf_counter() - start
    if not store:
        return path, "", "ran", time.perf_counter() - start
    text = tidy(nb)
    changed = write(path, text)
    if re.search("[Ww]arning", noise):
        print(f"{path.name} warned its reader (not stored):\n{noise[-1500:]}", file=sys.stderr)
    return path, "", "changed" if changed else "same", time.perf_counter() - start


def unclean(path: Path) -> list[str]:
    """What is wrong with a committed notebook, without running it."""
    text, nb, wrong = path.read_text(encoding="utf-8"), read(path), []
    if WIDGET_VIEW in text or "widgets" in nb["metadata"]:
        wrong.append("holds widget state")
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code):
        parts = [pair for out in cell["outputs"] for pair in (out | out.get("data", {})).items()]
        shown = "\n".join(joined(value) for kind, value in parts if kind.startswith("text"))
        if any(out["output_type"] == "error" for out in cell["outputs"]):
            wrong.append(f"code cell {number} holds an error")
        drawn = any(kind.startswith("image/") for kind, _ in parts)
        source = joined(cell["source"])  # what waits for a file that is not there draws nothing
        if "#| fig-cap" in source and runs(cell, set()) and not drawn and ".exists()" not in source:
            wrong.append(f"code cell {number} has lost its figure")
        if MACHINE_PATH.search(shown):
            wrong.append(f"code cell {number} shows a path: {MACHINE_PATH.search(shown).group(0)}")
    silent = not any(cell["outputs"] for cell in code)
    if silent and any("print(" in joined(cell["source"]) and runs(cell, set()) for cell in code):
        wrong.append("has no output at all: was it executed?")
    if path.stat().st_size > 900_000:
        wrong.append(f"is {path.stat().st_size / 1e6:.2f} MB, the limit is 0.90")
    if tidy(nb) != text:
        wrong.append("is not clean: run tools/refresh.py on it")
    return wrong


def main() -> int:
    """Read the command line, refresh or check, print one line per notebook and a closing line."""
    parser = command_line(
        __doc__, check="execute nothing, report what is unclean", run="execute, store nothing"
    )
    parser.add_argument("words", nargs="*", help="parts of notebook names; without: all")
    parser.add_argument("--flags", default="", help=f"flags to run as well, of: {' '.join(FLAGS)}")
    parser.add_argument("--workers", type=int, default=1, help="notebooks at the same time")
    parser.add_argument("--limit", type=int, default=600, help="seconds for one cell")
    args = parser.parse_args()
    flags = set(args.flags.replace(",", " ").split())
    if flags - set(FLAGS):
        parser.error(
            f"unknown flag {' '.join(sorted(flags - set(FLAGS)))}, known: {' '.join(FLAGS)}"
        )
    paths = find(args.words)
    failed = 0
    if args.check:
        for path in paths:
            wrong = unclean(path)
            failed += bool(wrong)
            for sentence in wrong:
                print(f"{path.relative_to(ROOT)} {sentence}")
        print(f"{len(paths)} notebooks checked, {failed} not clean")
        return int(failed > 0)
    with ProcessPoolExecutor(max_workers=max(1, args.workers)) as pool:
        jobs = [pool.submit(refresh, path, flags, args.limit, not args.run) for path in paths]
        for job in jobs:
            path, problem, what, seconds = job.result()
            failed += bool(problem)
            print(f"{path.relative_to(ROOT)}: {what}, {seconds:.0f} s", flush=True)
            if problem:
                print(problem, file=sys.stderr, flush=True)
    print(f"{len(paths) - failed} notebooks {'ran' if args.run else 'refreshed'}, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
