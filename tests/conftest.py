"""Decoded images of the tests go to a folder that is removed at the end, never to the user's cache."""

import atexit
import os
import shutil
import tempfile

HOME = tempfile.mkdtemp(prefix="dgdd_cache_")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["DGDD_CACHE"] = HOME
