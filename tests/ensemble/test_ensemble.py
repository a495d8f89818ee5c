"""The Python API: images of any kind, which heads are loaded, threads, folders to share."""

import copy
import fnmatch
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import ExifTags, Image

import data.images.decode
from data.images.decode import decode
from data.runtime.errors import InputError
from ensemble import Ensemble
from ensemble.files.predictions import Prediction, Predictions
from ensemble.inference.load import select_labels
from heads.run.checkpoint import load_tensors, save_tensors

ROOT = Path(__file__).parents[2]
TASKS = ["mask", "gender", "age"]


@pytest.fixture(scope="module")
def model(runs: Path) -> Ensemble:
    return Ensemble.load(runs)


@pytest.fixture(scope="module")
def photos(faces: Path) -> Path:
    return faces / "eval" / "images"


@pytest.fixture(scope="module")
def photo(photos: Path) -> Path:
    return min(photos.iterdir())


def assert_equal(found: Predictions, expected: Predictions) -> None:
    arrays = expected.to_arrays()
    assert found.to_arrays().keys() == arrays.keys()
    for name, array in found.to_arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def upside_down(photo: Image.Image, file: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    photo.save(file, quality="keep", exif=exif)


KINDS = {
    "orientation.jpg": upside_down,
    "grey.png": lambda photo, file: photo.convert("L").save(file),
    "deep.png": lambda photo, file: Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257).save(file),
    "palette.gif": lambda photo, file: photo.convert("P").save(file),
    "transparent.png": lambda photo, file: photo.putalpha(99) or photo.save(file),
    "ink.tif": lambda photo, file: photo.convert("CMYK").save(file),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_path_a_pillow_image_and_its_pixels_have_the_same_answer(name, model, photo, tmp_path) -> None:
    with Image.open(photo) as image:
        KINDS[name](image, tmp_path / name)
    expected = model.predict(tmp_path / name)
    assert expected[0].id == str(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        found = model.predict(image)
        assert_equal(found, expected)
        assert found[0].id == "<image 0>"
    assert_equal(model.predict(decode(tmp_path / name)), expected)
    head = model.heads["mask"]
    torch.testing.assert_close(head.transform(decode(tmp_path / name)), head.transform(str(tmp_path / name)))


def test_lists_mix_all_kinds_and_keep_their_order(model: Ensemble, photos: Path, photo: Path) -> None:
    folder = model.predict(photos)
    with Image.open(photo) as image:
        mixed = model.predict([decode(photo), photos, str(photo), image])
    names = sorted(path.name for path in photos.iterdir())
    assert folder.ids == names
    assert mixed.ids == ["<image 0>", *(str(photos / name) for name in names), str(photo), "<image 3>"]
    assert_equal(Predictions.concat(list(model.stream(photos))), folder)
    for face in (mixed[0], mixed[1], mixed[-2], mixed[-1]):
        assert face.mask.probability == pytest.approx(folder[0].mask.probability, abs=1e-5)
    assert len(list(mixed)) == len(names) + 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "an empty list"),
        ("nowhere.jpg", "nowhere.jpg: no such image or folder"),
        (np.zeros((8, 8, 3)), r"<image 0>: an array float64 \[8, 8, 3\], expected uint8 \[height, width, 3\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"uint8 \[2, 8, 8, 3\], .* a list of them"),
        (np.zeros((9, 12, 3), np.uint8), "<image 0>: 12 x 9 pixels, expected at most 100"),
        (Image.new("RGB", (11, 10)), "<image 0>: 11 x 10 pixels, expected at most 100"),
        ([Image.new("F", (8, 8))], "<image 0>: the image cannot be decoded .floating-point"),
        ([3], "<image 0>: found int, expected a path"),
        (b"\xff\xd8", r"found the bytes of a file, expected an image such as PIL\.Image\.open"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, message: str, model: Ensemble, monkeypatch) -> None:
    monkeypatch.setattr(data.images.decode, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match=message):
        model.predict(images)


def test_an_image_that_cannot_be_decoded_has_no_label(model: Ensemble, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:400])
    with pytest.raises(InputError, match=r"cut\.jpg: the image cannot be decoded"):
        model.predict(tmp_path)
    answers = model.predict([tmp_path / "gone.jpg", photo, tmp_path / "cut.jpg"], skip_bad=True)
    assert [face.mask.label is None for face in answers] == [True, False, True]
    assert np.isnan([answers[0].mask.probability, answers[0].age.value]).all()
    assert answers[2].error in str(answers[2])
    table = answers.to_frame()
    assert table["gender"].isna().tolist() == table["age_number"].isna().tolist() == [True, False, True]
    assert table["reason"].tolist() == answers.errors


def test_tasks_are_items_and_where_they_can_be_attributes(model: Ensemble, photo: Path) -> None:
    face = model.predict(photo)[0]
    assert face["age"] is face.age
    assert {"mask", "gender", "age", "code"} <= set(dir(face))
    with pytest.raises(AttributeError, match="glasses: no such task, found mask, gender, age"):
        _ = face.glasses
    assert pickle.loads(pickle.dumps(face)) == copy.copy(face) == face
    assert Prediction("a", 1, {"code": face.mask, "is worn": face.age})["code"] == face.mask


def test_threads_share_a_model(model: Ensemble, photos: Path) -> None:
    expected = model.predict(photos)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: model.predict(photos), range(2)):
            assert_equal(found, expected)


def test_the_caller_s_random_numbers_are_left_alone(model: Ensemble, photo: Path) -> None:
    before = torch.get_rng_state()
    model.predict(photo)
    assert torch.equal(torch.get_rng_state(), before)


def test_from_any_folder_without_torch_until_used_and_nothing_on_stdout(runs, photo, tmp_path) -> None:
    program = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
import ensemble
assert "torch" not in sys.modules
from ensemble import Ensemble
print(Ensemble.load({str(runs)!r}).predict({str(photo)!r})[0].code)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip().isdecimal()


def test_the_runs_decide_which_heads_are_loaded(runs: Path, configs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for task in TASKS:
        (tmp_path / task).symlink_to(runs / task)
    assert list(select_labels(tmp_path, None)) == TASKS
    (tmp_path / "joint.yaml").write_text("tasks: [age, mask]")
    assert select_labels(tmp_path, None) == {"age": None, "mask": None}
    assert list(select_labels(tmp_path, configs / "joint.yaml").values())[1].classes == ["male", "female"]

    (tmp_path / "joint.yaml").write_text("tasks: [age, ../mask]")  # as somebody else's folder may say
    with pytest.raises(InputError, match=r"joint\.yaml: tasks that cannot be folders .*\n  '\.\./mask' contains"):
        select_labels(tmp_path, None)

    own = tmp_path / "own"
    with pytest.raises(InputError, match="own: no such folder"):
        select_labels(own, None)
    for task in ("b", "c"):
        (own / task).mkdir(parents=True)
        (own / task / "best.safetensors").symlink_to(runs / "mask" / "best.safetensors")
    tensors, description = load_tensors(runs / "mask" / "best.safetensors")
    description["config"]["backbone"]["weights"] = "run:c"
    (own / "a").mkdir()
    save_tensors(own / "a" / "best.safetensors", tensors, description)
    assert capsys.readouterr().err == ""
    assert list(select_labels(own, None)) == ["a", "b"]
    assert "the joint code is of a, b in this order" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onx"}, "engine='onx', expected auto or torch or onnx or openvino, did you mean onnx"),
        ({"engine": "onnx", "precision": "int8"}, "goes with engine='openvino'"),
        ({"margin": 0.5}, "margin=0.5, expected 0 to 1 and views='adaptive'"),
        ({"batch_size": 0}, "batch_size=0, expected 1 or more"),
        ({"workers": -1}, "workers=-1, expected 0 or more, or None"),
        ({"device": "gpu"}, "device='gpu': cannot be used"),
        ({"engine": "onnx", "device": "meta"}, "computes on the CPU, expected 'cpu'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str, runs: Path) -> None:
    with pytest.raises(InputError, match=message):
        Ensemble.load(runs, **options)


@pytest.fixture(scope="module")
def folds(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Ensemble:
    """Age before two folds of mask, which are one head in two places."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "joint.yaml").write_text("tasks: [age, mask]")
    (folder / "age").symlink_to(runs / "age")
    for fold in ("fold-0", "fold-1"):
        (folder / "mask").mkdir(exist_ok=True)
        (folder / "mask" / fold).symlink_to(runs / "mask")
    return Ensemble.load(folder)


@pytest.fixture(scope="module")
def saved(folds: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folds.save(tmp_path_factory.mktemp("shared") / "heads", data="drawn faces", terms="CC0")
    return tmp_path_factory.getbasetemp() / "shared0" / "heads"


def test_saved_heads_predict_the_same_and_name_no_other_place(folds, saved, runs, photos, faces) -> None:
    model = Ensemble.load(saved)
    assert list(model.heads) == ["age", "mask/fold-0", "mask/fold-1"]
    assert_equal(model.predict(photos), folds.predict(photos))
    files = [path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()]
    heads = [f"{place}/{file}" for place in model.heads for file in ("best.safetensors", "manifest.json")]
    assert sorted(files) == sorted([*heads, "README.md", "joint.yaml"])
    for file in files:
        content = (saved / file).read_bytes()
        assert not any(str(place).encode() in content for place in (runs, faces, saved.parent, ROOT))
    assert "## Trained on\n\ndrawn faces" in (saved / "README.md").read_text()
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        folds.save(saved)


def test_heads_of_the_hub_are_those_of_its_folder(folds, saved, photo, tmp_path, monkeypatch) -> None:
    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        if name != "owner/faces":
            raise RepositoryNotFoundError("404\nno such repository", response=Mock(headers={}))
        assert revision == "v2"
        for file in filter(Path.is_file, saved.rglob("*")):
            place = file.relative_to(saved)
            if any(fnmatch.fnmatch(place.as_posix(), pattern) for pattern in allow_patterns):
                (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / place)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert_equal(Ensemble.load("hf://owner/faces@v2").predict(photo), folds.predict(photo))
    with pytest.raises(
        InputError, match=r"hf://owner/none: cannot be downloaded \(404 no such repository\), expected hf://OWNER/NAME"
    ):
        Ensemble.load("hf://owner/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not there
    with pytest.raises(InputError, match=r"pip install -r requirements-bring\.txt"):
        Ensemble.load("hf://owner/faces")


def test_answers_elsewhere_than_their_images_are_scored(model: Ensemble, faces: Path, tmp_path: Path) -> None:
    shutil.copy(faces / "eval" / "answers.csv", tmp_path / "answers.csv")
    with pytest.raises(InputError, match="listed images cannot be used"):
        model.evaluate(tmp_path / "answers.csv")
    scores = model.evaluate(tmp_path / "answers.csv", faces / "eval" / "images")
    assert json.dumps(scores) == json.dumps(model.evaluate(faces / "eval" / "answers.csv"))
