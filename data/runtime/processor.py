"""What the system tells of its processor: Linux's /proc/cpuinfo, nothing elsewhere."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpuinfo_lines(told: Path = CPUINFO) -> list[str]:
    """Its lines; none where the system does not tell."""
    try:
        return told.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def instruction_sets(told: Path = CPUINFO) -> list[set[str]]:
    """Linux's names of the instruction sets, x86's or ARM's, of each of its cores."""
    lines = (line for line in cpuinfo_lines(told) if line.startswith(("flags", "Features")))
    return [set(line.partition(":")[2].split()) for line in lines]


def is_intel(told: Path = CPUINFO) -> bool:
    """Whether the processor is Intel's; no where the system does not tell whose it is."""
    return any(line.startswith("vendor_id") and "Intel" in line for line in cpuinfo_lines(told))
