"""How fast is a step of distillation? Ratios measured side by side in one process.

    python benchmarks/bench_step.py              # everything, some minutes on 2 cores
    python benchmarks/bench_step.py --quick      # a smoke test with tiny settings
    python benchmarks/bench_step.py --only sgs   # one group: public, sgs, growth, recover, ...

The steps that are compared take turns: one round runs each of them once, in an order that rotates, and the ratio of a round is
taken inside it, so that a busy machine slows down both sides. What is reported is the median over the rounds, with the
lowest and the highest. Groups:

- `public`: DM of our engine against a plain re-creation of the public loop (`public_loop.py`), at equal work.
  The loop runs in a process of its own, where freed memory goes back to the system as in any script, and once more in this one,
  where `files.keep_memory` keeps it. Beside them the share of the machine's own matrix-product rate (`torch.mm`, float32) that
  the convolutions reach.
- `sgs`: DM+SGS against DM, three domains, one engine on both sides. DM gets its domains as one, so that it pays for one
  backward pass only. The column `arithmetic` is the ratio that the counted convolutions alone would give.
- `growth`: the same for 2 to 12 domains, beside the naive loop that makes a whole DM pass for each domain and one for
  the union.
- `bfloat16`: DM+SGS with the features of the real images in bfloat16 and in float32, beside the public loop, on a
  processor with units for it. `off` is the distance of the gradient of one step from that of float32, as a share of
  its norm.
- `objectives`: other objectives against DM, and each with SGS against itself, three domains.
- `posthoc`: a training of the judge with each method of post-hoc domain generalisation against the plain one.
- `gradients`: gradient matching (DC) against DM on one domain, alone and with SGS on three domains, and by autograd over the
  table of losses, without the pass that the domains share.
- `recover`: steps of SRe2L and of G-VBSM (one teacher), whole, against forward and backward pass of the same teacher alone.

The images are random numbers: the time of a step does not depend on what is on them.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from public_loop import STRATEGY, PublicLoop

from dgdd_nb.data import Batch, MultiDomain
from dgdd_nb.distilled import assign_domains
from dgdd_nb.domain_gradients import DomainGradients
from dgdd_nb.engine import Engine, EngineSettings, FeatureStore, bfloat16_gain
from dgdd_nb.gradient_matching import GradientMatching
from dgdd_nb.inversion import recover
from dgdd_nb.networks import network
from dgdd_nb.matching import DM, Matcher
from dgdd_nb.methods import build
from dgdd_nb.surgery import SGS
from dgdd_nb.teachers import Teacher, backbone
from dgdd_nb.train import get_recipe, train

CLASSES = 10
Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """The work of one step."""

    size: int = 32  # side of the images, pixels
    width: int = 128  # channels of the network
    real_batch: int = 256  # real images per class, over all domains
    ipc: int = 10  # synthetic images per class
    K: int = 3  # domains
    per_class: int = 1800  # images per class in the data set
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.size}x{self.size}, width {self.width}, {self.real} real, ipc {self.ipc}, K = {self.K}"

    @property
    def real(self) -> int:
        """Real images per class of one step, so many that all domains give equally many."""
        return -(-self.real_batch // self.K) * self.K

    def source(self, K: int) -> MultiDomain:
        """Random images, each class spread evenly over K domains; the same images for every K."""
        n = CLASSES * self.per_class
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(
            0, 256, (n, 3, self.size, self.size), generator=generator, dtype=torch.uint8
        )
        number = torch.arange(n)
        names = [f"domain {k}" for k in range(K)]
        return MultiDomain.from_arrays(
            x, number % CLASSES, number // CLASSES % K, domain_names=names
        )

    def flops(self, backward_passes: int) -> float:
        """Operations of the convolutions in one step (a multiplication and an addition are two)."""
        side, channels, per_image = self.size, 3, 0
        for _ in range(3):
            per_image += 2 * 9 * channels * self.width * side * side
            side, channels = side // 2, self.width
        return CLASSES * per_image * (self.real + self.ipc * (1 + backward_passes))


# ---- the steps ----


def starting_images(case: Case, K: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Synthetic images, their classes and domains."""
    labels, domains = assign_domains(case.ipc, torch.ones(K, CLASSES, dtype=torch.bool))
    generator = torch.Generator().manual_seed(1)
    synthetic = torch.randn(len(labels), 3, case.size, case.size, generator=generator)
    return synthetic.to(case.device), labels.to(case.device), domains.to(case.device)


def settings_of(case: Case, real_batch: int | None = None) -> EngineSettings:
    """The engine as it is by default, but for the work that the case asks for."""
    return EngineSettings(
        width=case.width,
        real_batch=real_batch or case.real,
        augment=STRATEGY,
        device=case.device,
    )


def engine_step(
    case: Case,
    sgs: bool = False,  # DM+SGS on K domains, or DM
    pooled: bool | None = None,  # all domains as one; DM is pooled unless said otherwise
    precision: str = "float32",
    matcher: str = "DM",
    store: FeatureStore | None = None,  # of the features of the real images
) -> Step:
    """One step of our engine and its optimiser; its `gradient()` is that of the union at step 0."""
    pooled = not sgs if pooled is None else pooled
    K = 1 if pooled else case.K
    synthetic, labels, domains = starting_images(case, K)
    settings = replace(settings_of(case), precision=precision)
    engine = Engine(case.source(K), build(matcher), SGS() if sgs else None, settings)
    engine.store = store
    optimiser = torch.optim.SGD([synthetic], lr=0.01, momentum=0.5)
    number = iter(range(10**9))

    def step() -> None:
        engine.step(synthetic, labels, domains, next(number))
        optimiser.step()

    step.gradient = lambda: engine.gradients(synthetic, labels, 0).g_dm
    return step


def naive_step(case: Case) -> Step:
    """SGS as K+1 whole DM passes of the same engine: each domain with its share, and their union."""
    source = case.source(case.K)
    synthetic, labels, domains = starting_images(case, case.K)
    share = settings_of(case, real_batch=case.real // case.K)
    engines = [Engine(source.only(name), DM(), None, share) for name in source.domain_names]
    engines.append(Engine(case.source(1), DM(), None, settings_of(case)))
    surgery, optimiser = SGS(), torch.optim.SGD([synthetic], lr=0.01, momentum=0.5)
    number = iter(range(10**9))

    def step() -> None:
        t = next(number)
        *g_domain, g_dm = (engine.gradients(synthetic, labels, t).g_dm for engine in engines)
        found = DomainGradients(torch.stack(g_domain), g_dm)
        synthetic.grad = surgery(found, labels, domains)
        optimiser.step()

    return step


def public_step(case: Case) -> Step:
    """One step of the public loop."""
    source = case.source(1).to(case.device)
    synthetic, _, _ = starting_images(case, 1)
    images = source.normalisation()(source.images)
    loop = PublicLoop(
        images, source.labels, synthetic, case.ipc, width=case.width, real_batch=case.real, lr=0.01
    )

    def step() -> None:  # without the loss: a number is taken for seconds
        loop.step()

    return step


def _serve(connection: Connection, case: Case, threads: int, tick: Callable[[], float]) -> None:
    """In a process of its own: one step of the public loop, timed, whenever asked."""
    torch.set_num_threads(threads)
    step = public_step(case)
    while connection.recv():
        begin = tick()
        step()
        connection.send(tick() - begin)


def script_step(case: Case) -> Step:
    """One step of the public loop in a process of its own; it returns its seconds."""
    if case.device != "cpu":
        return public_step(case)
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    what = (there, case, torch.get_num_threads(), clock)
    context.Process(target=_serve, args=what, daemon=True).start()

    def step() -> float:
        here.send(True)
        return here.recv()

    return step


def product_step(side: int, device: str, flops: float = 2e10) -> tuple[Step, float]:
    """A float32 matrix product and its operations: the fastest thing that this machine can do."""
    a, b = torch.randn(side, side, device=device), torch.randn(side, side, device=device)
    repeats = max(1, round(flops / (2 * side**3)))
    return lambda: [torch.mm(a, b) for _ in range(repeats)], 2.0 * side**3 * repeats


# ---- the clock ----


clock = time.perf_counter


def measure(
    steps: dict[str, Step], rounds: int, device: str, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds of each step in each round; the steps take turns."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    for step in steps.values():
        for _ in range(warm_up):
            step()
    wait()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = clock()
            told = steps[name]()
            wait()
            seconds[name].append(told if isinstance(told, float) else clock() - begin)
    return seconds


def row(
    group: str,
    case: Case | str,
    name: str,
    seconds: dict[str, list[float]],
    base: str,  # what it is compared with
    faster: bool = False,  # ratio base / this (how many times faster), else this / base
    **more: float | str,
) -> dict[str, object]:
    """One line of the result: medians over the rounds."""
    mine, other = seconds[name], seconds[base]
    ratios = [b / a if faster else a / b for a, b in zip(mine, other, strict=True)]
    return {
        "group": group,
        "case": str(case),
        "step": name,
        "seconds": f"{statistics.median(mine):.4f}",
        "ratio": f"{statistics.median(ratios):.3f}",
        "lowest": f"{min(ratios):.3f}",
        "highest": f"{max(ratios):.3f}",
        "meaning": f"{base} / this" if faster else f"this / {base}",
        "rounds": len(mine),
        **more,
    }


# ---- the groups ----


def public_group(args: argparse.Namespace) -> list[dict[str, object]]:
    cases = [Case(K=1), Case(size=16, width=32, K=1)]
    if args.quick:
        cases = [Case(size=16, width=8, real_batch=8, ipc=2, K=1, per_class=40)]
    rows = []
    for case in (replace(case, device=args.device) for case in cases):
        sides, work = ((256,), 2e8) if args.quick else ((1024, 2048), 2e10)
        products = {f"torch.mm {n}": product_step(n, args.device, work) for n in sides}
        steps = {"public loop": script_step(case), "DM": engine_step(case)}
        steps["public loop, memory kept"] = public_step(case)
        steps |= {name: step for name, (step, _) in products.items()}
        seconds = measure(steps, args.rounds if case.size > 16 else 3 * args.rounds, args.device)
        rate = max(
            flops / statistics.median(seconds[name]) for name, (_, flops) in products.items()
        )
        for name in steps:
            flops = products[name][1] if name in products else case.flops(1)
            speed = flops / statistics.median(seconds[name])
            rows.append(
                row(
                    "public",
                    case,
                    name,
                    seconds,
                    "public loop",
                    True,
                    gflops=f"{speed / 1e9:.1f}",
                    share_of_mm=f"{speed / rate:.2f}",
                )
            )
    return rows


def sgs_group(args: argparse.Namespace) -> list[dict[str, object]]:
    cases = [Case(), Case(real_batch=96)]
    if args.quick:
        cases = [Case(size=16, width=8, real_batch=9, ipc=3, per_class=42)]
    rows = []
    for case in (replace(case, device=args.device) for case in cases):
        steps = {"DM": engine_step(case), "DM+SGS": engine_step(case, sgs=True)}
        steps["DM on K domains"] = engine_step(case, pooled=False)
        seconds = measure(steps, args.rounds, args.device)
        for name in steps:
            counted = case.flops(case.K) / case.flops(1) if "SGS" in name else 1
            rows.append(row("sgs", case, name, seconds, "DM", arithmetic=f"{counted:.3f}"))
    return rows


def growth_group(args: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for K in (2, 3) if args.quick else range(2, 13):
        case = Case(size=16, width=32, K=K, device=args.device)
        if args.quick:
            case = replace(case, width=8, real_batch=12, ipc=K, per_class=48)
        steps = {
            "DM": engine_step(case),
            "DM+SGS": engine_step(case, sgs=True),
            "naive K+1 passes": naive_step(case),
        }
        seconds = measure(steps, args.rounds, args.device)
        for name in steps:
            counted = {"DM": 1.0, "DM+SGS": case.flops(K) / case.flops(1)}.get(name, "")
            rows.append(
                row(
                    "growth",
                    case,
                    name,
                    seconds,
                    "DM",
                    arithmetic=f"{counted:.3f}" if counted else "",
                )
            )
    return rows


def bfloat16_group(args: argparse.Namespace) -> list[dict[str, object]]:
    if args.device == "cpu" and (gain := bfloat16_gain()) < 1.2:
        print(f"bfloat16 is left out: {gain:.2g} times as fast as float32 on this processor")
        return []
    case = Case(device=args.device)
    if args.quick:
        case = replace(case, size=16, width=8, real_batch=9, ipc=3, per_class=42)
    names = {"DM+SGS": "float32", "DM+SGS, bfloat16": "bfloat16"}
    made = {name: engine_step(case, sgs=True, precision=p) for name, p in names.items()}
    exact = made["DM+SGS"].gradient()
    off = {name: (step.gradient() - exact).norm() / exact.norm() for name, step in made.items()}
    seconds = measure({"public loop": script_step(case)} | made, args.rounds, args.device)
    return [
        row("bfloat16", case, name, seconds, "public loop", True, **how)
        for name, how in [("public loop", {}), *((n, {"off": f"{x:.1e}"}) for n, x in off.items())]
    ]


class Table(GradientMatching):
    """Gradient matching the general way."""

    shortcut = Matcher.shortcut


def gradients_group(args: argparse.Namespace) -> list[dict[str, object]]:
    case = Case(size=16, width=32, real_batch=96, device=args.device)
    if args.quick:
        case = replace(case, width=8, real_batch=9, ipc=3, per_class=42)
    steps = {
        "DM": engine_step(case),
        "DM, one domain": engine_step(replace(case, real_batch=case.real // case.K)),
        "DC": engine_step(case, matcher="GradientMatching"),
        "DC+SGS": engine_step(case, sgs=True, matcher="GradientMatching"),
        "DC+SGS, table": engine_step(case, sgs=True, matcher="bench_step:Table"),
    }
    seconds = measure(steps, args.rounds, args.device)
    return [row("gradients", case, name, seconds, "DM, one domain") for name in steps]


def objectives_group(args: argparse.Namespace) -> list[dict[str, object]]:
    cases = [Case(size=16, width=32, real_batch=96), Case(real_batch=96), Case()]
    if args.quick:
        cases = [Case(size=16, width=8, real_batch=9, ipc=3, per_class=42)]
    rows = []
    for case in (replace(case, device=args.device) for case in cases):
        steps = {}
        for name in ("DM", "DataDAM", "HDD", "M3D", "SDD", "NCFM"):
            how = {"matcher": name, "pooled": False}
            steps |= {name: engine_step(case, **how), f"{name}+SGS": engine_step(case, True, **how)}
        seconds = measure(steps, args.rounds, args.device)
        for name in steps:
            base = name.removesuffix("+SGS") if name.endswith("+SGS") else "DM"
            rows.append(row("objectives", case, name, seconds, base))
    return rows


def share_group(args: argparse.Namespace) -> list[dict[str, object]]:
    """Steps whose real side another run has left in files, beside steps that compute it."""
    cases = [Case(size=16, width=32, real_batch=96), Case(real_batch=96)]
    if args.quick:
        cases = [Case(size=16, width=8, real_batch=9, ipc=3, per_class=42)]
    rows = []
    for case in (replace(case, device=args.device) for case in cases):
        with tempfile.TemporaryDirectory() as folder:
            store, fresh = FeatureStore(Path(folder, "read")), FeatureStore(Path(folder, "written"))
            first = engine_step(case, pooled=False, store=store)
            for _ in range(args.rounds + 2):  # as many as are measured and warm up
                first()
            steps = {"DM, first": engine_step(case, pooled=False, store=fresh)}
            for name, sgs in (("DM", False), ("DM+SGS", True)):
                steps[name] = engine_step(case, sgs, pooled=False)
                steps[f"{name}, shared"] = engine_step(case, sgs, pooled=False, store=store)
            seconds = measure(steps, args.rounds, args.device)
            for name in steps:
                rows.append(row("share", case, name, seconds, name.partition(",")[0]))
    return rows


def posthoc_group(args: argparse.Namespace) -> list[dict[str, object]]:
    size, width, ipc = (32, 8, 3) if args.quick else (32, 128, 10)
    labels, domains = assign_domains(ipc, torch.ones(3, CLASSES, dtype=torch.bool))
    images = torch.randn(len(labels), 3, size, size, generator=torch.Generator().manual_seed(0))
    data = Batch(images, labels, domains, 3, CLASSES).to(args.device)
    recipe, steps = get_recipe("quick", epochs=1, schedule="constant", lr=1e-4), {}
    plugs = {"plain": None, "MixStyle, p = 1": {"name": "mixstyle", "p": 1.0}, "FACT": "fact"}
    plugs |= {"AdvFreq": "advfreq", "AdvFreq as published": {"name": "advfreq", "published": True}}
    for name, plug in plugs.items():
        net = network(classes=CLASSES, size=size, width=width, seed=0).to(args.device)
        how = get_recipe(recipe, transform=plug)
        steps[name] = lambda net=net, how=how: train(net, data, how)
    seconds = measure(steps, args.rounds, args.device, warm_up=1)
    case = f"one epoch, {len(labels)} images of {size}x{size}, batches of 32, width {width}"
    return [row("posthoc", case, name, seconds, "plain") for name in steps]


def recover_group(args: argparse.Namespace) -> list[dict[str, object]]:
    rows, few = [], 2 if args.quick else 5  # steps
    cases = [("convnet-bn", 16, 32), ("convnet-bn", 32, 128), ("resnet18", 32, None)]
    labels = torch.arange(100) % CLASSES
    for name, size, width in cases[:1] if args.quick else cases:
        source = Case(size=size, per_class=12).source(1)
        net = backbone(name, size, classes=CLASSES, seed=0, width=width)
        teacher, see = Teacher(net.to(args.device), {"network": name}), source.normalisation()
        noise = torch.randn(100, 3, size, size, generator=torch.Generator().manual_seed(0))
        noise, y = noise.to(args.device), labels.to(args.device)

        def plain(net=net, noise=noise, y=y) -> None:
            for _ in range(few):
                x = noise.clone().requires_grad_()
                torch.nn.functional.cross_entropy(net(x), y).backward()

        def made(**how) -> Step:
            given = [teacher], labels, see  # noqa: B023
            how |= {"steps": few, "batch": 100, "device": args.device}
            return lambda: recover(*given, **how)

        steps = {"plain": plain, "SRe2L": made()}
        steps["G-VBSM"] = made(real=source.images, momentum=0.8, drop=0.4, dense=1.0, together=True)
        seconds = measure(steps, args.rounds, args.device, warm_up=1)
        wide = f", width {width}" if width else ""
        case = f"{few} steps, {name}, 100 images of {size}x{size}{wide}"
        rows += [row("recover", case, step, seconds, "plain") for step in steps]
    return rows


# ---- results ----

SHOWN = ["case", "step", "seconds", "ratio", "lowest", "highest", "meaning", "arithmetic"]
SHOWN += ["share_of_mm", "off"]
COLUMNS = [
    "group",
    *SHOWN,
    "gflops",
    "rounds",
    "clock",
    "threads",
    "cpus",
    "device",
    "torch",
    "python",
]
COLUMNS += ["processor"]


def surroundings(device: str) -> dict[str, object]:
    """What a reader needs to judge the seconds."""
    cuda = device.startswith("cuda")
    return {
        "clock": clock.__name__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "device": torch.cuda.get_device_name() if cuda else device,
    }


def write(rows: list[dict[str, object]], path: Path) -> None:
    """CSV, under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def markdown(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown tables, one per group."""
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        mine = [row for row in rows if row["group"] == group]
        used = [name for name in SHOWN if any(row.get(name, "") != "" for row in mine)]
        lines += [f"\n### {group}\n", "| " + " | ".join(used) + " |", "|" + " --- |" * len(used)]
        lines += ["| " + " | ".join(str(row.get(name, "")) for name in used) + " |" for row in mine]
    return "\n".join(lines)


GROUPS = {"public": public_group, "sgs": sgs_group, "growth": growth_group}
GROUPS |= {"bfloat16": bfloat16_group, "objectives": objectives_group, "posthoc": posthoc_group}
GROUPS |= {"gradients": gradients_group, "recover": recover_group, "share": share_group}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny settings, to see that everything runs"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="groups to measure"
    )
    parser.add_argument("--rounds", type=int, default=None, help="repetitions (7; with --quick 2)")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of torch (as many as it takes)"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread and the seconds of the process alone, for a machine that others use too",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--out", type=Path, help="CSV (results/step.csv if all groups are measured in full)"
    )
    args = parser.parse_args(arguments)
    args.rounds = args.rounds or (2 if args.quick else 7)
    if not args.out and not args.quick and len(args.only) == len(GROUPS):
        args.out = Path(__file__).parent / "results" / "step.csv"
    if args.cpu_time:
        global clock
        args.threads, clock = 1, time.process_time
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = []
    for name in args.only:
        rows += [found | surroundings(args.device) for found in GROUPS[name](args)]
        if args.out:
            write(rows, args.out)
        print(markdown([found for found in rows if found["group"] == name]), flush=True)
    print(f"\nwritten to {args.out}" if args.out else "\nnothing written: name a file with --out")


if __name__ == "__main__":
    main()
