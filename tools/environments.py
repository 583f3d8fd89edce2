"""The project in other environments: the oldest versions declared, the newest on each Python, those of a hosted notebook service.

    python tools/environments.py                   every environment whose Python is on this machine
    python tools/environments.py floors hosted     these
    python tools/environments.py --short floors    imports, a small main job and the core notebooks only (.ci/run does this)
    python tools/environments.py --write           put the table into CONTRIBUTING.md

Each one is a clone of the last commit in a folder with a space in its name, with a virtual environment of its own:

    floors      Python 3.10, every requirement at the version that settings.ini names as the oldest
    3.10 ...    the newest of everything that this Python gets
    hosted      the versions of tools/hosted.txt, then the package as a reader installs it: without nbdev

and runs the main job, every notebook, all tests, and twenty steps of SGS from one seed, whose start must have the same
bits everywhere and whose end is compared. --home DIR keeps the environments (5 GB each) for the next time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from books import ROOT, command_line, settings

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CORE = "10_matching 11_domain_gradients 12_fourier 13_resultant 14_surgery 15_engine".split()
SMALL = "--steps 5 --seeds 1 --networks 1 --train 100 --ipc 1 --jobs 1".split()
QUICK = "not slow and not gpu and not browser"
VERSIONS = """
import sys, torch, numpy, matplotlib
names = [f"{x.__name__} {x.__version__.split('+')[0]}" for x in (torch, numpy, matplotlib)]
print("Python", ", ".join([sys.version.split()[0], *names]))
"""
MODULES = """
import importlib, pkgutil, dgdd_nb
names = [m.name for m in pkgutil.iter_modules(dgdd_nb.__path__)]
for name in names: importlib.import_module("dgdd_nb." + name)
print(len(names), "modules imported")
"""
STEPS = """
import sys, torch, dgdd_nb as dg
torch.set_num_threads(1)
source, _ = dg.mini_digits(16).leave_out("street")
sets = [dg.distill(source, dg.DM(), surgery=dg.SGS(), ipc=10, steps=n, seed=0).images for n in (0, 20)]
from safetensors.torch import save_file
save_file({"start": sets[0].contiguous(), "end": sets[1].contiguous()}, sys.argv[1])
"""


def requirements() -> dict[str, list[str]]:
    """The lines of settings.ini that name requirements, split."""
    cfg, kinds = settings(), ("notebooks", "nbdev", "hub", "cluster", "dev")
    lines = {kind: cfg[f"{kind}_requirements"].split() for kind in kinds}
    return {"package": cfg["requirements"].split(), **lines}


def floors() -> list[str]:
    """`name==oldest` for every requirement that has a floor, except nbdev's own."""
    kinds = requirements()
    lines = [
        line for kind in ("package", "notebooks", "hub", "cluster", "dev") for line in kinds[kind]
    ]
    return [re.sub(r">=([\d.]+)[^;]*", r"==\1", line) for line in lines if ">=" in line]


def python(version: str) -> str | None:
    """A Python of this version: on the PATH, or one of a version manager."""
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *map(str, managed)):
        if found:
            shown = subprocess.run([found, "-V"], capture_output=True, text=True).stdout
            if shown.startswith(f"Python {version}."):
                return found
    return None


class Environment:
    """One clone with its virtual environment, and what was tried in it."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.folder = name, home / name
        self.version = {"floors": "3.10", "hosted": "3.13"}.get(name, name)
        self.clone, self.venv = self.folder / "a clone", self.folder / "venv"
        self.row: dict[str, str] = {}

    def call(self, what: str, *command: str, limit: int = 3600) -> subprocess.CompletedProcess:
        """Run a command in the clone; its output goes to a log that is named if it fails."""
        log = self.folder / f"{what}.txt"
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        env |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
        if (beside := ROOT.parent / "shared").is_dir():  # golden files, real images
            env.setdefault("DGDD_SHARED", str(beside))
        env |= {"PATH": f"{self.venv / 'bin'}{os.pathsep}{env['PATH']}", "PYTHONWARNINGS": "ignore"}
        with log.open("w") as out:
            done = subprocess.run(
                command,
                cwd=self.clone,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=limit,
            )
        done.stdout = log.read_text(errors="replace")
        if done.returncode:
            print(f"{self.name}: {what} failed, {log}\n{done.stdout[-2000:]}", flush=True)
        return done

    def python(self, what: str, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run the environment's Python."""
        return self.call(what, str(self.venv / "bin" / "python"), *arguments, **options)

    def install(self) -> bool:
        """The clone of the last commit, and what it needs; an environment with the same requirements stays."""
        shutil.rmtree(self.clone, ignore_errors=True)
        self.clone.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "HEAD"], stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(self.clone)], input=archive.stdout, check=True)
        for command in (
            "init -q .",
            "add -A",
            "-c user.name=x -c user.email=x@example.invalid commit -qm x",
        ):
            subprocess.run(
                ["git", *command.split()], cwd=self.clone, check=True, stdout=subprocess.DEVNULL
            )
        hosted = self.clone / "tools" / "hosted.txt"
        oldest = self.folder / "floors.txt"
        oldest.write_text("\n".join(floors()) + "\n")
        stamp, pip = self.folder / "stamp", ["-m", "pip", "install", "-q"]
        now = hashlib.sha256(
            f"{requirements()}{hosted.read_text()}{self.version}".encode()
        ).hexdigest()
        if stamp.exists() and stamp.read_text() == now:
            if self.name == "hosted":  # the others are editable
                self.python("package", *pip, "--force-reinstall", "--no-deps", ".")
            return True
        found = python(self.version)
        if self.call("venv", found, "-m", "venv", "--clear", str(self.venv)).returncode:
            return False
        steps = {
            "floors": [[*pip, "-c", str(oldest), "-e", ".[notebooks,dev]"]],
            "hosted": [[*pip, "-r", str(hosted), "setuptools"], [*pip, "."]],
        }.get(self.name, [[*pip, "--upgrade", "pip"], [*pip, "-e", ".[notebooks,dev]"]])
        for i, step in enumerate(steps):
            if self.python(f"install {i}", *step).returncode:
                return False
        stamp.write_text(now)
        return True

    def last(self, done: subprocess.CompletedProcess, pattern: str) -> str:
        """What the output says by the pattern, or how it ended."""
        found = re.findall(pattern, done.stdout)
        return (
            found[-1]
            if found and done.returncode == 0
            else f"FAILED ({found[-1] if found else done.returncode})"
        )

    def run(self, short: bool, workers: int) -> Environment:
        """Everything, one after the other."""
        began = time.perf_counter()
        if not self.install():
            self.row["installed"] = "FAILED"
            return self
        self.row["versions"] = self.last(self.python("versions", "-c", VERSIONS), "Python (.*)")
        modules = self.python("modules", "-c", MODULES)
        self.row["modules"] = self.last(modules, r"(\d+) modules imported")
        with tempfile.TemporaryDirectory() as folder:
            job = [str(self.venv / "bin" / "dgdd"), "demo", "--out", f"{folder}/demo"]
            demo = self.call("main job", *job, *(SMALL if short else []))
            self.row["main job"] = "FAILED" if demo.returncode else "passed"
        books = ["tools/refresh.py", "--run", f"--workers={workers}", *(CORE if short else [])]
        self.row["notebooks"] = self.last(self.python("notebooks", *books), r"(\d+) notebooks ran")
        if not short:
            if self.name == "hosted":  # who runs the tests wants the tools too
                kinds = requirements()
                tools = [
                    line for kind in ("dev", "nbdev", "hub", "cluster") for line in kinds[kind]
                ]
                self.python("tools", "-m", "pip", "install", "-q", *tools)
            tests = ["-m", "pytest", f"-n{workers}", "--dist=loadfile", "-m", QUICK, "tests"]
            self.row["tests"] = self.last(
                self.python("tests", *tests), r"(\d+ (?:failed|passed).*) in "
            )
        self.python("steps", "-c", STEPS, str(self.folder / "steps.safetensors"))
        self.row["seconds"] = f"{time.perf_counter() - began:.0f}"
        print(self.name, self.row, flush=True)
        return self


def compared(environments: list[Environment]) -> None:
    """How far the ends of twenty steps lie apart, as a share of the way from the start."""
    stored = [(e, e.folder / "steps.safetensors") for e in environments]
    stored = [(e, path) for e, path in stored if path.exists()]
    if len(stored) < 2:
        return
    from safetensors.numpy import load_file

    sets = [(e, load_file(path)) for e, path in stored]
    first = sets[0][1]
    way = ((first["end"] - first["start"]) ** 2).mean() ** 0.5
    for e, images in sets:
        same = (images["start"] == first["start"]).all()
        apart = ((images["end"] - first["end"]) ** 2).mean() ** 0.5 / way
        e.row["20 steps of SGS"] = f"{'same' if same else 'OTHER'} start, end {apart:.1e} away"


def table(environments: list[Environment]) -> str:
    """Markdown."""
    columns = list(dict.fromkeys(key for e in environments for key in e.row))
    lines = ["| environment | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {e.name} | " + " | ".join(e.row.get(c, "") for c in columns) + " |"
        for e in environments
    ]
    return "\n".join(lines)


def main() -> int:
    """Build, run, print one table."""
    parser = command_line(
        __doc__,
        list="only say which can be built here",
        short="the core only",
        write="put the table into CONTRIBUTING.md",
    )
    names = ("floors", *PYTHONS, "hosted")
    parser.add_argument("names", nargs="*", help=f"of: {' '.join(names)}")
    parser.add_argument("--home", type=Path, help="folder that keeps the environments")
    parser.add_argument(
        "--workers", type=int, default=2, help="notebooks, or files of tests, at the same time"
    )
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"unknown environment {' '.join(unknown)}, known: {' '.join(names)}")
    home = args.home or Path(tempfile.gettempdir(), f"dgdd environments {os.getpid()}")
    chosen = [Environment(name, home.resolve()) for name in args.names or names]
    missing = [e.name for e in chosen if python(e.version) is None]
    if args.list:
        print("\n".join(f"{e.name}: {python(e.version)}" for e in chosen if e.name not in missing))
        return 0
    chosen = [e for e in chosen if e.name not in missing]
    done = [e.run(args.short, args.workers) for e in chosen]
    compared(done)
    text = table(done)
    print(text)
    if missing:
        print(f"No Python on this machine for: {' '.join(missing)}.")
    if args.write:
        page = ROOT / "CONTRIBUTING.md"
        marks = r"(?<=<!-- environments -->\n).*?(?=<!-- end -->)"
        page.write_text(
            re.sub(marks, lambda _: text + "\n", page.read_text(encoding="utf-8"), flags=re.S),
            encoding="utf-8",
        )
    if not args.home:
        shutil.rmtree(home, ignore_errors=True)
    failed = [
        e.name
        for e in done
        if any("FAILED" in v or "OTHER" in v or "failed" in v for v in e.row.values())
    ]
    print(f"{len(done) - len(failed)} environments passed, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
