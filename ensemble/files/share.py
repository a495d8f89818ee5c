"""Trained heads as one folder to share, and heads that others shared on the Hugging Face Hub."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from data.runtime.errors import InputError
from data.runtime.files import write_folder_atomically, write_text
from ensemble.inference.load import JOINT_FILE
from ensemble.inference.predictor import Task
from heads.config.loader import dump_yaml
from heads.export.model_card import head_section, write_card
from heads.run.folder import write_manifest

HUB = "hf://"
CARD = "README.md"  # the name by which the Hub shows it
INTERFACE = '`from ensemble import Ensemble; Ensemble.load("{}").predict("photo.jpg")`: the code of {}.'
# The files of `save_folder`: nothing else of somebody's repository is downloaded.
PATTERNS = (JOINT_FILE, *(f"*/{name}" for name in ("best.safetensors", "manifest.json")))


def save_folder(folder: Path, tasks: Mapping[str, Task], data: str | None = None, terms: str | None = None) -> None:
    """Write the heads' checkpoints, joint.yaml and a model card into a new folder, which names no other place.

    `data` and `terms` are the user's words for the card (see `write_card`); InputError if the folder is not empty.
    """
    with write_folder_atomically(folder) as new:
        for name, task in tasks.items():
            for head in task.heads:
                place = new / name / (head.file.parent.name if len(task.heads) > 1 else "")
                place.mkdir(parents=True)
                shutil.copyfile(head.file, place / head.run.best.name)
                write_manifest(place)
        write_text(new / JOINT_FILE, dump_yaml({"tasks": list(tasks)}))
        sections = [head_section(head) for task in tasks.values() for head in task.heads]
        interface = INTERFACE.format(folder.name, ", ".join(tasks))
        write_card(new / CARD, ", ".join(tasks), interface, sections, data, terms)


def find_folder(runs: str | os.PathLike[str]) -> Path:
    """Return the folder of runs; that of `hf://owner/name`, or `hf://owner/name@revision`, is downloaded once.

    Raises:
        InputError: the package is not installed, or there is no such repository, revision or connection.
    """
    if not str(runs).startswith(HUB):
        return Path(runs)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(f"{runs}: huggingface_hub is not installed; pip install -r requirements-bring.txt") from None
    name, _, revision = str(runs).removeprefix(HUB).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(PATTERNS)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{runs}: cannot be downloaded ({reason}), expected hf://OWNER/NAME of saved heads") from None
