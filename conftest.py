"""Modules that need optional packages are collected where those are installed."""

from importlib.util import find_spec

OPTIONAL = [
    "ensemble/cluster/actors.py",
    "ensemble/cluster/listing.py",
    "ensemble/cluster/parts.py",
    "tests/scale/ray_cluster.py",
    "tests/scale/test_ray.py",
]
collect_ignore = [] if find_spec("ray") and find_spec("pyarrow") else OPTIONAL
