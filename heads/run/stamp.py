"""Stamps of finished jobs: what each was made from, so that it is not done again until that changes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.annotations.table import paths_in_sources, read_table
from data.runtime.errors import InputError
from data.runtime.files import write_text
from heads.run.folder import file_checksum


@dataclass(frozen=True)
class Stamp:
    """The stamp of one job.

    Attributes:
        file: where it is kept.
        result: a file that the job writes and nothing changes later.
        read_inputs: reads what decides the job's result, as JSON values by name.
        states: files that a stopped job continues from with `resume`; removed when it begins anew.
        resume: the argument to continue with.
    """

    file: Path
    result: Path
    read_inputs: Callable[[], Mapping[str, Any]]
    states: Sequence[Path] = ()
    resume: Sequence[str] = ()

    def start(self, name: str) -> Sequence[str] | None:
        """Return further arguments for the job called `name`, or None if it is done; print why it is done again."""
        try:
            inputs = dict(self.read_inputs())
        except InputError:
            return ()  # the job reports it itself
        stamp = self._read()
        before, result = stamp.get("inputs", {}), stamp.get("result")
        changed = sorted(key for key in before.keys() | inputs.keys() if before.get(key) != inputs.get(key))
        if not changed and result is not None and result == self._result():
            return None
        if not changed and result is None:
            return self.resume
        if before:
            print(f"{name}: done again; changed since: {', '.join(changed) or self.result}", flush=True)
        for state in self.states:
            state.unlink(missing_ok=True)
        self._write(inputs, None)
        return ()

    def finish(self) -> None:
        """Mark the job as done."""
        if inputs := self._read().get("inputs"):
            self._write(inputs, self._result())

    def _result(self) -> str | None:
        return file_checksum(self.result) if self.result.is_file() else None

    def _read(self) -> dict[str, Any]:
        try:
            stamp = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: the job is done again
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _write(self, inputs: Mapping[str, Any], result: str | None) -> None:
        write_text(self.file, json.dumps({"inputs": inputs, "result": result}, indent=2) + "\n")


def table_checksum(sources: Sequence[Path]) -> str:
    """Compute the SHA-256 of the images' names and labels in the sources' table, wherever the sources lie."""
    table = read_table(sources, lenient=True)
    table["path"] = paths_in_sources(table)
    text = table.drop(columns="source").to_csv(index=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
