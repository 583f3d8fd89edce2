"""All tests: nbdev_test over the notebooks, then pytest over tests/.

    python tools/test.py                      everything
    python tools/test.py matching fourier     notebooks and test files whose names contain a word
    python tools/test.py --flags "slow data"  cells (and tests) with these flags too
    python tools/test.py --notebooks          only the notebooks;  --tests: only pytest

The last line says how many notebooks and tests passed; the exit status is 0 only if none failed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from books import ROOT, command_line
from books import notebooks as all_notebooks
from refresh import FLAGS, THREADS


def run(command: list[str], workers: int, **streams) -> subprocess.CompletedProcess:
    """Run a command in the repository: threads for each worker, no display, no prompts."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    quiet = {"MPLBACKEND": "agg", "PYTHONUTF8": "1", "TQDM_DISABLE": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(THREADS, threads), **quiet},
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        **streams,
    )


def notebooks(words: list[str], flags: str, workers: int) -> tuple[int, int]:
    """Run nbdev_test over the notebooks whose names contain a word: (passed, failed)."""
    paths = [path for path in all_notebooks() if chosen(path, words)]
    if not paths:
        return 0, 0
    script = shutil.which("nbdev_test", path=str(Path(sys.executable).parent))
    if script is None:
        sys.exit('nbdev is missing: install the tools first, `python -m pip install -e ".[dev]"`.')
    names = "|".join(re.escape(path.name) for path in paths)
    command = [script, "--n_workers", str(workers), "--do_print", "--timing"]
    command += ["--file_re", f"^({names})$", "--flags", flags]
    done = run(command, workers, stderr=subprocess.PIPE)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return len(paths), 0
    names = re.findall(r"^\t(\S+\.ipynb)\s*$", done.stderr, flags=re.M)
    failed = len(set(names)) or len(paths)  # none named: the run itself broke
    return len(paths) - failed, failed


def tests(words: list[str], flags: str, workers: int) -> tuple[int, int]:
    """Run pytest over the files whose names contain a word, whole files side by side: (passed, failed)."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if chosen(path, words)]
    if not files:
        return 0, 0
    skip = " and ".join(f"not {flag}" for flag in (*FLAGS, "browser") if flag not in flags.split())
    workers = min(workers, len(files))
    command = [sys.executable, "-m", "pytest", *(["-m", skip] if skip else [])]
    command += ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
    done = run([*command, *map(str, sorted(files))], workers, stdout=subprocess.PIPE)
    print(done.stdout, flush=True)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    failed = count.get("failed", 0) + count.get("error", 0)
    if done.returncode not in (0, 5):  # 5: every test was deselected
        failed = max(failed, 1)
    return count.get("passed", 0), failed


def chosen(path: Path, words: list[str]) -> bool:
    """Whether a file's name contains one of the words; without words: yes."""
    return not words or any(Path(word).stem in path.stem for word in words)


def main() -> int:
    """Read the command line, run both kinds, print one closing line."""
    parser = command_line(__doc__)
    parser.add_argument("words", nargs="*", help="parts of notebook or test names; without: all")
    parser.add_argument("--flags", default="", help=f"flags to run as well, of: {' '.join(FLAGS)}")
    parser.add_argument(
        "--workers", type=int, default=2, help="notebooks, or files of tests, at the same time"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--notebooks", action="store_true", help="leave pytest out")
    only.add_argument("--tests", action="store_true", help="leave the notebooks out")
    args = parser.parse_args()
    start, passed, failed, lines = time.perf_counter(), 0, 0, []
    for kind, test, left_out in (
        ("notebooks", notebooks, args.tests),
        ("tests", tests, args.notebooks),
    ):
        if not left_out:
            good, bad = test(args.words, args.flags, max(1, args.workers))
            passed, failed = passed + good, failed + bad
            lines.append(f"{good} of {good + bad} {kind}")
    if passed + failed == 0:
        sys.exit(f"Nothing in nbs/ or tests/ has a name with {' or '.join(args.words)} in it.")
    end = f": {failed} FAILED" if failed else ""
    print(f"{' and '.join(lines)} passed in {time.perf_counter() - start:.0f} s{end}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
