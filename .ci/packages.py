"""Checks on the built sdist and wheel, one subcommand each; standard library only.

python .ci/packages.py contents DIST              what is inside, and what must not be
python .ci/packages.py unpack DIST TARGET         the wheel's files, without its requirements
python .ci/packages.py imports TARGET SOURCE      every module, imported from TARGET
"""

import importlib
import re
import sys
import tarfile
import zipfile
from pathlib import Path

ENDINGS = "tar|npz|npy|pt|pth|pkl|pickle|safetensors|zip|gz|jpg|jpeg"
FOREIGN = re.compile(rf"\.({ENDINGS})$|(^|/)(shared|golden)/", flags=re.I)
LIMIT = 20_000_000  # bytes, for either file


def pair(dist: str) -> tuple[Path, Path]:
    """The one wheel and the one sdist in a folder."""
    wheels, sdists = sorted(Path(dist).glob("*.whl")), sorted(Path(dist).glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        sys.exit(
            f"{len(wheels)} wheels and {len(sdists)} sdists in {dist}, one of each was wanted."
        )
    return wheels[0], sdists[0]


def names_inside(path: Path) -> list[str]:
    """The files of a wheel, or of an sdist without its outer folder."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return [name.split("/", 1)[-1] for name in archive.getnames()]


def contents(dist: str) -> None:
    """Both hold all modules and notebooks of the repository (the current folder), and no data."""
    wheel, sdist = pair(dist)
    modules = {
        path.as_posix()
        for ending in ("py", "js", "png", "txt", "json", "safetensors")
        for path in Path("dgdd_nb").rglob(f"*.{ending}")
    }
    books = {
        path.relative_to("nbs").as_posix()
        for path in Path("nbs").rglob("*.ipynb")
        if not any(part.startswith((".", "_")) for part in path.parts)
    }
    shipped = {f"dgdd_nb/notebooks/{book}" for book in books}
    source = {f"nbs/{book}" for book in books} | {"settings.ini", "setup.py", "LICENSE"}
    for path, wanted in ((wheel, modules | shipped), (sdist, modules | source)):
        names = names_inside(path)
        missing = sorted(wanted - set(names))
        foreign = [x for x in names if FOREIGN.search(x) and not x.startswith("dgdd_nb/sets/")]
        size = path.stat().st_size
        if missing or foreign or size > LIMIT:
            sys.exit(f"{path.name}: missing {missing}, foreign {foreign}, {size} bytes")
        print(f"{path.name}: {len(names)} files, {size / 1e6:.2f} MB, no data")


def unpack(dist: str, target: str) -> None:
    """A wheel of pure Python is installed by unpacking it: torch is not downloaded again."""
    with zipfile.ZipFile(pair(dist)[0]) as archive:
        archive.extractall(target)


def imports(target: str, source: str) -> None:
    """Import every module of the unpacked wheel; none may come from the source folder."""
    here = Path.cwd().resolve()
    if Path(source).resolve() in [here, *here.parents]:
        sys.exit("The imports must be tried from outside the source folder.")
    sys.path.insert(0, target)
    names = sorted(
        path.stem for path in Path(target, "dgdd_nb").glob("*.py") if path.stem != "__init__"
    )
    for name in names:
        module = importlib.import_module(f"dgdd_nb.{name}")
        if not Path(module.__file__).resolve().is_relative_to(Path(target).resolve()):
            sys.exit(f"dgdd_nb.{name} was imported from {module.__file__}, not from the wheel.")
    print(f"{len(names)} modules imported from the wheel: {' '.join(names)}")


if __name__ == "__main__":
    {"contents": contents, "unpack": unpack, "imports": imports}[sys.argv[1]](*sys.argv[2:])
