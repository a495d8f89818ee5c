"""A config that takes over what the file of its backbone's weights says of itself: which backbone, which pixels."""

from pathlib import Path
from typing import Any

from data.runtime.errors import InputError
from heads.config.loader import check_config
from heads.config.task import TaskConfig
from heads.run.checkpoint import find_description


def apply_weights_metadata(config: TaskConfig, name: str) -> TaskConfig:
    """`config` with the backbone's name and pixel normalisation of its weights' file, where that describes them.

    Only files of `heads.convert` do. What the config itself sets stays, and must agree.

    Args:
        config: as read.
        name: what error messages call it.

    Raises:
        InputError: the config sets another backbone or another normalisation than the file was made with.
    """
    weights = config.backbone.weights
    if not weights.endswith(".safetensors") or not Path(weights).is_file():
        return config
    backbone = read_backbone_metadata(Path(weights))
    if backbone is None:
        return config
    plain = config.model_dump()
    for section, key in (("backbone", "name"), ("pixels", "mean"), ("pixels", "std")):
        part = getattr(config, section)
        if key in part.model_fields_set and getattr(part, key) != backbone[key]:
            raise InputError(
                f"{name}: {section}.{key} is {getattr(part, key)}, expected {backbone[key]} as {weights} says; "
                "leave it out"
            )
        plain[section][key] = backbone[key]
    return check_config(TaskConfig, plain, name)


def read_backbone_metadata(path: Path) -> dict[str, Any] | None:
    """`name`, `mean` and `std` from the description of a .safetensors file; None where it has none."""
    backbone = (find_description(path) or {}).get("trunk")
    return backbone if isinstance(backbone, dict) else None
