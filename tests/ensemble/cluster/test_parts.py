"""Plans of parts: what a later run, or another machine, must share with the run that started them."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data.runtime.errors import InputError

pytest.importorskip("pyarrow", reason="needs requirements-ray.txt")

from ensemble import Ensemble
from ensemble.cluster.parts import ClusterPlan, ParquetParts, make_plan


@pytest.fixture
def plan(runs: Path, faces: Path) -> ClusterPlan:
    model = Ensemble.load(runs, engine="torch", precision="fp32", views="adaptive", margin=1.0, batch_size=8)
    return make_plan(model, str(faces / "eval"), part_rows=8)


def test_parts_are_resumed_by_the_same_plan_alone(plan: ClusterPlan, tmp_path: Path) -> None:
    lengths = ParquetParts(str(tmp_path), plan).lengths
    assert ParquetParts(str(tmp_path), plan).lengths == lengths
    changes = {
        "batch_size: found 8, expected 4": {"batch_size": 4},
        "margin: found 1.0, expected 0.5": {"margin": 0.5},
        r"temperatures\.mask: found [0-9.]+, expected None": {"temperatures": {}},
        r"tasks: found \['mask', 'gender', 'age'\], expected \['age', ": {"tasks": ["age", "mask", "gender"]},
        r"views\.mask: found .*, expected \['id'\]": {"views": {**plan.views, "mask": ["id"]}},
        "versions.decoders: found ": {"versions": {**plan.versions, "decoders": "12.0.0, 3.1.0"}},
    }
    for message, change in changes.items():
        with pytest.raises(InputError, match=f"holds parts of other predictions.*\n  {message}"):
            ParquetParts(str(tmp_path), replace(plan, **change))
    assert set(asdict(plan)["versions"]) == {"engine", "torch", "cv2", "decoders"}


def test_a_machine_with_other_versions_predicts_no_part(plan: ClusterPlan, tmp_path: Path) -> None:
    parts = ParquetParts(str(tmp_path), replace(plan, versions={**plan.versions, "torch": "1.13.1"}))
    with pytest.raises(InputError, match=r"part-000000.*has other software.*\n  torch: .*expected '1\.13\.1'"):
        parts.predict(None, 0)
    assert parts.missing() == list(range(len(parts.lengths)))
