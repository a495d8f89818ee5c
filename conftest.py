"""Modules that need optional packages are collected where those are installed."""

from importlib.util import find_spec

HAS_RAY = find_spec("ray") and find_spec("pyarrow")
collect_ignore_glob = [] if HAS_RAY else ["ensemble/cluster/*.py", "tests/scale/*ray*.py"]
