"""Real images and weights beside the repository, where they are there; the product runs without them."""

from pathlib import Path

import pytest

from data.annotations.table import read_table
from ensemble.joint import load_tasks
from heads.model.head import build_backbone
from heads.model.weights import fill_backbone, read_tensors

ROOT = Path(__file__).parents[2]


def shared(name: str) -> Path:
    path = ROOT.parent / "shared" / name
    return path if path.exists() else pytest.skip(f"no shared/{name} beside the repository")


@pytest.mark.parametrize(("folder", "column", "rows"), [("faces_age", "age", 6600), ("faces_mask", "mask", 3982)])
def test_a_folder_of_real_images_is_read_whole(folder: str, column: str, rows: int) -> None:
    table = read_table([shared(folder)])
    assert len(table) == table["path"].nunique() == rows
    assert table[column].notna().all()
    if column == "mask":
        assert set(table["mask"]) == set(load_tasks(ROOT / "configs/joint.yaml")["mask"])


def test_the_imagenet_file_fills_the_whole_backbone() -> None:
    backbone, _ = build_backbone("resnet18")
    report = fill_backbone(backbone, read_tensors(shared("weights/resnet18_imagenet.safetensors")), "imagenet")
    assert len(report.loaded) == len(backbone.state_dict())
    assert (report.missing, report.unused) == ((), ("fc.bias", "fc.weight"))
