"""What the real data next to the repository is said to hold; the product runs without it."""

from pathlib import Path

import pytest

from data.annotations.table import read_table
from heads.model.backbones import build_backbone, load_backbone

SHARED = Path(__file__).parents[3] / "shared"


def place(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"no {name} in a folder `shared` beside the repository")
    return SHARED / name


@pytest.mark.parametrize(
    ("folder", "column", "rows"), [("faces_age", "age", 6600), ("faces_mask", "mask", 3982)]
)
def test_a_folder_of_real_images_is_read_whole(folder: str, column: str, rows: int) -> None:
    table = read_table([place(folder)])
    assert len(table) == rows
    assert table[column].notna().all()
    assert table["path"].is_unique


def test_the_masks_of_the_real_images_are_spelt_as_in_the_configs() -> None:
    from ensemble.config import load_tasks

    expected = load_tasks(Path(__file__).parents[2] / "configs" / "joint.yaml")["mask"]
    assert set(read_table([place("faces_mask")])["mask"]) == set(expected)


def test_the_imagenet_file_fills_the_whole_backbone() -> None:
    backbone, _ = build_backbone("resnet18")
    report = load_backbone(backbone, place("weights/resnet18_imagenet.safetensors"))
    assert len(report.taken) == len(backbone.state_dict())
    assert report.missing == ()
    assert report.left == ("fc.bias", "fc.weight")
