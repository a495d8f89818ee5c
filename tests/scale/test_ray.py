"""Many machines answer as one does: image for image, from files and from S3, also where a worker is killed."""

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import combine

pytestmark = pytest.mark.scale
ROOT = Path(__file__).parents[2]
BATCH = 8
Combine = Callable[..., subprocess.CompletedProcess[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def s3(faces: Path) -> Iterator[dict[str, str]]:
    """The environment of an S3 server on the loopback address that holds the drawn faces as s3://faces/eval."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        assert server.poll() is None
        time.sleep(0.2)
    in_s3(
        environment,
        "s3.mkdir('faces'); s3.put(sys.argv[1] + '/', 'faces/eval', recursive=True)",
        faces / "eval",
    )
    yield environment
    server.terminate()
    server.wait()


def in_s3(environment: dict[str, str], code: str, *arguments: object) -> str:
    script = f"import sys, fsspec; s3 = fsspec.filesystem('s3'); {code}"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def cluster(s3: dict[str, str]) -> Iterator[str]:
    """The address of a Ray cluster of two workers."""
    command = [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | s3 | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@pytest.fixture(scope="module")
def on_ray(cluster: str, s3: dict[str, str], runs: Path, configs: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(data: object, parts: object, *arguments: object) -> subprocess.Popen[str]:
        command = ["-m", "ensemble.cluster", "--runs", runs, "--config", configs / "joint.yaml"]
        command += ["--data", data, "--parts", parts, "--batch-size", BATCH, "--part-rows", BATCH, *arguments]
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | s3 | {"RAY_ADDRESS": cluster},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def one_machine(
    call: Callable[..., object],
    faces: Path,
    runs: Path,
    configs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What one machine answers: submission.csv and probabilities.npz."""
    folder = tmp_path_factory.mktemp("here")
    given = ["--runs", runs, "--config", configs / "joint.yaml", "--batch-size", BATCH, "--workers", 0]
    outcome = call(combine, "--data", faces / "eval", "--out", folder / "submission.csv", *given)
    assert outcome.code == 0, outcome.err
    return folder


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return out, err


def assert_answers_of_one_machine(parts: Path, one_machine: Path, *more: str) -> None:
    import pyarrow.parquet as pq

    tables = [pq.ParquetFile(path).read() for path in sorted((parts / "answers").glob("*.parquet"))]
    ids = [name for table in tables for name in table.column("ImageID").to_pylist()]
    with (one_machine / "submission.csv").open() as file:
        expected = list(csv.DictReader(file))
    assert ids == [row["ImageID"] for row in expected]
    answers = [answer for table in tables for answer in table.column("ans").to_pylist()]
    assert answers == [int(row["ans"]) for row in expected]
    with np.load(one_machine / "probabilities.npz") as held:
        for name in (
            "mask",
            "gender",
            "age",
            "mask/identity",
            "gender/identity",
            "age/identity",
            "age/number",
            *more,
        ):
            rows = [row for table in tables for row in table.column(name).to_pylist()]
            np.testing.assert_array_equal(np.array(rows, dtype=np.float32), held[name])


def times(parts: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (parts / "answers").glob("*.parquet")}


def test_a_folder_is_answered_as_on_one_machine_and_no_part_twice(
    on_ray: Callable[..., subprocess.Popen[str]], faces: Path, one_machine: Path, tmp_path: Path
) -> None:
    parts, submission = tmp_path / "parts", tmp_path / "submission.csv"
    out, _ = ended(on_ray(faces / "eval", parts, "--out", submission))
    assert "56 images in 7 parts" in out
    assert_answers_of_one_machine(parts, one_machine)
    assert submission.read_bytes() == (one_machine / "submission.csv").read_bytes()

    before = times(parts)
    (parts / "answers" / "part-000003.parquet").unlink()
    ended(on_ray(faces / "eval", parts))
    after = times(parts)
    assert [name for name in after if after[name] != before[name]] == ["part-000003.parquet"]
    assert_answers_of_one_machine(parts, one_machine)

    _, err = ended(on_ray(faces / "eval", parts, "--batch-size", 4), code=2)
    assert "holds parts of other predictions" in err
    assert "batch_size: found 8, expected 4" in err


def test_adaptive_views_are_those_of_one_machine(
    on_ray: Callable[..., subprocess.Popen[str]],
    call: Callable[..., object],
    faces: Path,
    runs: Path,
    configs: Path,
    tmp_path: Path,
) -> None:
    adaptive = ["--views", "adaptive", "--margin", 0.05]
    here, parts = tmp_path / "here", tmp_path / "parts"
    given = ["--runs", runs, "--config", configs / "joint.yaml", "--batch-size", BATCH, "--workers", 0]
    outcome = call(combine, "--data", faces / "eval", "--out", here / "submission.csv", *given, *adaptive)
    assert outcome.code == 0, outcome.err
    out, _ = ended(on_ray(faces / "eval", parts, *adaptive))
    assert "56 images in 1 parts" in out  # a part holds whole windows
    assert_answers_of_one_machine(parts, here, "mask/views", "gender/views", "age/views")
    _, err = ended(on_ray(faces / "eval", parts, *adaptive[:-1], 0.06), code=2)
    assert "margin: found" in err


def test_a_killed_worker_leaves_nothing_out_and_nothing_double(
    on_ray: Callable[..., subprocess.Popen[str]], faces: Path, one_machine: Path, tmp_path: Path
) -> None:
    process, parts = on_ray(faces / "eval", tmp_path), tmp_path
    while not times(parts):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    actors = [
        each for each in psutil.process_iter(["cmdline"]) if "ray::MapWorker" in " ".join(each.info["cmdline"] or [])
    ]
    actors[0].send_signal(signal.SIGKILL)
    missing = 7 - len(times(parts))
    ended(process)
    assert actors
    assert missing
    assert len(times(parts)) == 7
    assert_answers_of_one_machine(parts, one_machine)


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_listings_and_images_in_s3(
    on_ray: Callable[..., subprocess.Popen[str]],
    s3: dict[str, str],
    faces: Path,
    one_machine: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    data = {
        "csv": "s3://faces/eval",
        "parquet": "s3://faces/eval/list.parquet",
        "folder": "s3://faces/eval/images",
    }
    if kind == "parquet":
        import pandas as pd

        local = tmp_path / "list.parquet"
        pd.read_csv(faces / "eval" / "info.csv", dtype=str).to_parquet(local)
        in_s3(s3, "s3.put(sys.argv[1], 'faces/eval/list.parquet')", local)
    submission = tmp_path / "submission.csv"
    ended(on_ray(data[kind], f"s3://faces/{kind}", "--out", submission))
    in_s3(s3, f"s3.get('faces/{kind}/', sys.argv[1], recursive=True)", tmp_path / "parts")
    if kind == "folder":  # in the order of names, so that batches hold other images
        with submission.open() as file, (one_machine / "submission.csv").open() as reference:
            answered = {row["ImageID"]: row["ans"] for row in csv.DictReader(file)}
            assert answered == {row["ImageID"]: row["ans"] for row in csv.DictReader(reference)}
            assert list(answered) == sorted(answered)
    else:
        assert submission.read_bytes() == (one_machine / "submission.csv").read_bytes()
        assert_answers_of_one_machine(tmp_path / "parts", one_machine)


def test_a_bad_image_is_named_and_all_other_parts_are_done(
    on_ray: Callable[..., subprocess.Popen[str]], faces: Path, tmp_path: Path
) -> None:
    data = tmp_path / "eval"
    shutil.copytree(faces / "eval", data)
    with (data / "info.csv").open() as file:
        last = list(csv.DictReader(file))[-1]["ImageID"]
    whole = (data / "images" / last).read_bytes()
    (data / "images" / last).write_bytes(b"no image")
    _, err = ended(on_ray(data, tmp_path / "parts"), code=2)
    assert f"error: {tmp_path / 'parts'}: 1 parts have no predictions; repair these images and run again" in err
    assert f"  {data / 'images' / last}: not an image of a known format" in err
    done = times(tmp_path / "parts")
    assert len(done) == 6
    (data / "images" / last).write_bytes(whole)
    ended(on_ray(data, tmp_path / "parts"))
    assert times(tmp_path / "parts").items() >= done.items()
    assert len(times(tmp_path / "parts")) == 7
    assert json.loads((tmp_path / "parts/plan.json").read_text())["lengths"] == [8] * 7
