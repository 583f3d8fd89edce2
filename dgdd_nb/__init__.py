"""Domain-generalizable dataset distillation, taught, implemented and tested in notebooks.

`import dgdd_nb as dg` offers what most users need; a name is imported when it is first used.
"""

__version__ = "0.1.0"

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_MODULES = {  # module -> the names of it that stand here
    "data": ("MultiDomain", "Batch"),
    "mini_digits": ("mini_digits",),
    "distilled": ("DistilledSet", "ready_set"),
    "folders": ("from_folder",),
    "check": ("check",),
    "hub": ("from_dataset",),
    "matching": ("DM", "Objective", "Matcher"),
    "domain_gradients": ("domain_gradients",),
    "resultant": ("resultant_length", "null_level"),
    "surgery": ("SGS", "MatchedDM", "OwnDomain", "decompose"),
    "distill": ("distill", "estimate"),
    "networks": ("network", "Encoders"),
    "train": ("train",),
    "evaluate": ("evaluate", "leave_one_out"),
    "coresets": ("whole", "random", "herding", "k_center"),
    "pseudo_domains": ("pseudo_domains",),
    "methods": ("register", "make_set"),
    "study": ("Study", "run_study", "compare"),
    "results": ("read_results", "render"),
    "explore": ("explore",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = list(_WHERE)


class _Package(ModuleType):
    """`dg.distill` is the function, also after `import dgdd_nb.distill` has loaded its module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _WHERE):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
