"""Decoded images of the tests go to a folder that is removed at the end, never to the user's cache."""

import os
import shutil
import tempfile

HOME = tempfile.mkdtemp(prefix="dgdd_cache_")
os.environ["DGDD_CACHE"] = HOME


def pytest_unconfigure(config: object) -> None:
    "Called once, at the end of each test process."
    shutil.rmtree(HOME, ignore_errors=True)
