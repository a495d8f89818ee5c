"""Runs whose weights are averaged: which fit together, who validates them, and the greedy choice among them."""

import sys
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import geometric_mean

import pandas as pd
import torch
from torch import Tensor

from data.annotations.table import read_table
from data.audit.validation import read_validation
from data.dataset import ImageDataset, SequentialIndices
from data.images.decode import Read
from data.runtime.arrays import write_arrays
from data.runtime.errors import InputError, raise_all
from data.runtime.files import write_text
from data.runtime.processes import usable_workers
from data.transforms.pipeline import Pipeline
from heads.build import describe_validation
from heads.load import TrainedHead, build_head, load_verified_head
from heads.objective.calibration import fit_temperature
from heads.objective.metrics import compute_metrics
from heads.run.folder import RunFolder, save_head, write_history, write_json, write_manifest
from heads.run.leakage import TrainingPeople, find_training_people, hash_person
from heads.train.loaders import ProcessBatches, make_loader
from heads.train.loop import ValidationOutput, predict
from heads.train.recorder import summarise_validation
from heads.train.state import Record

# The runs must agree in the meaning of their tensors, pixels and probabilities, and in how the best one is chosen.
SHARED_KEYS = (
    *("task", "label", "backbone.name", "classifier.hidden", "classifier.factored", "training.select_by", "views"),
    *("pixels.mean", "pixels.std", "pixels.evaluate"),
)
# Between the convolutions of heads from one backbone the cosine was 0.90 to 0.97, from two random ones 0.00.
LEAST_COSINE = 0.5


def load_runs(folders: Sequence[Path]) -> tuple[list[TrainedHead], TrainingPeople]:
    """Load the heads of runs, and the people whom any of them was trained on; warn of heads that do not store them."""
    heads = [load_verified_head(RunFolder(folder).best) for folder in folders]
    people = [find_training_people(head.file) for head in heads]
    unknown = tuple(dict.fromkeys(name for each in people for name in each.unknown))
    for name in unknown:
        print(f"{name}: the people it was trained on are not known", file=sys.stderr)
    return heads, TrainingPeople(frozenset().union(*(each.hashes for each in people)), unknown)


def check_alike(heads: Sequence[TrainedHead], box_margin: float | None) -> None:
    """Refuse heads of other kinds or backbones, or trained on images that are not cropped by `box_margin`."""
    first, problems = heads[0], []
    for head in heads:
        for key in SHARED_KEYS:
            found, expected = (attrgetter(key)(each.config) for each in (head, first))
            if found != expected:
                problems.append(f"{head.file}: found the {key} {found}, expected {expected} as in {first.file}")
        if head.box_margin != box_margin:
            used = [
                "no --boxes" if each is None else f"--box-margin {each:g}" for each in (head.box_margin, box_margin)
            ]
            problems.append(f"{head.file}: trained with {used[0]}, found {used[1]}")
    raise_all("these runs cannot be averaged", problems)
    weights = [torch.cat([p.flatten() for p in h.head.state_dict().values() if p.ndim == 4]) for h in heads]
    for head, each in zip(heads, weights, strict=True):
        cosine = float(torch.cosine_similarity(weights[0], each, dim=0))
        if cosine < LEAST_COSINE:
            problems.append(f"{head.file}: the cosine of its convolutions with those of {first.file} is {cosine:.2f}")
    expected = f"expected {LEAST_COSINE} or more: weights are averaged of heads that start from one backbone"
    raise_all(f"these runs start from several backbones, {expected}", problems)


@pd.option_context("mode.string_storage", "python")  # Arrow's strings hold no names that are not UTF-8
def select_held_out(
    heads: Sequence[TrainedHead], people: TrainingPeople, data: Sequence[Path], optional: bool = False
) -> pd.DataFrame:
    """Select labelled images of people whom no head was trained on: of `data`, else those that all runs validated on.

    Returns columns source, person, path, shot, truth (class index) and, of numbers, value.

    Raises:
        InputError: there are none, unless `optional`.
    """
    if data:
        rows = heads[0].target.select_rows(read_table(data))
        rows["truth"] = heads[0].target.class_indices(rows)
        if heads[0].target.numbers:
            rows["value"] = heads[0].target.values(rows).numpy()
    else:
        stored = [read_validation(head.run.validation) for head in heads]
        common = set.intersection(*(set(arrays["person"].tolist()) for arrays in stored))
        names = [name for name in ("source", "person", "path", "shot", "truth", "value") if name in stored[0]]
        rows = pd.DataFrame({name: stored[0][name].tolist() for name in names})
        rows = rows[rows["person"].isin(common)]
    trained_on = [person for person in rows["person"].unique() if hash_person(person) in people.hashes]
    held_out = rows[~rows["person"].isin(trained_on)]
    if held_out.empty and not optional:
        raise InputError(
            "found nobody whom all runs were validated on and none was trained on, as between folds; give images of "
            "other people with --data DIR, or --all to average all runs without a choice"
        )
    print(f"validation: {len(held_out)} images of {held_out['person'].nunique()} people whom no run was trained on")
    return held_out.reset_index(drop=True)


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average tensors by name, in double precision, batch norm's statistics too; equal tensors stay as they are."""
    stacks = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return {name: stack.double().mean(dim=0).to(stack.dtype) for name, stack in stacks.items()}


def average_runs(
    heads: Sequence[TrainedHead], people: TrainingPeople, rows: pd.DataFrame, run: RunFolder, read: Read, every: bool
) -> None:
    """Average the heads that do not make the average worse on `rows`, or `every` one, and write the folder of a run.

    Its history has a row for each average that was tried, in place of an epoch.
    """
    states, names = [head.head.state_dict() for head in heads], [str(head.run.folder) for head in heads]
    config, truth = heads[0].config, rows["truth"].to_numpy()
    average, device = build_head(config), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = ImageDataset(rows["path"].tolist(), [Pipeline(config.pixels.evaluate)], read=read)
    batches = ProcessBatches(SequentialIndices(len(rows)), config.training.batch_size)
    loader = make_loader(images, batches, usable_workers(config.training.workers), config.training.seed)
    values = rows["value"].to_numpy() if "value" in rows else None

    def validate(places: Sequence[int]) -> tuple[ValidationOutput, Record]:
        average.load_state_dict(average_weights([states[place] for place in places]))
        pixels = (batch.pixels[0].to(device) for batch in loader)
        output = predict(average.to(device), heads[0].target, pixels)
        return output, compute_metrics(output.probabilities, truth, output.expected, values)

    if len(rows):
        key = config.training.select_by
        sign = -1.0 if key == "mae" else 1.0
        alone = [validate([place])[1][key] for place in range(len(heads))]
        chosen: list[int] = []
        history: list[Record] = []
        best: Record = {}
        for place in sorted(range(len(heads)), key=lambda place: -sign * alone[place]):
            tried = validate([*chosen, place])
            record = {"epoch": len(history) + 1.0, **tried[1]}
            history.append(record)
            added = every or not best or sign * record[key] >= sign * best[key]
            if added:
                output, best, chosen = tried[0], record, [*chosen, place]
            result = f"averaged with it {record[key]:.4f}: {'added' if added else 'left out'}"
            print(f"{names[place]}: {key} {alone[place]:.4f}, {result}", flush=True)
        temperature = fit_temperature(output.probabilities, truth)
        arrays = {**describe_validation(config, rows, truth, values), "probabilities": output.probabilities}
        write_arrays(run.validation, arrays if output.expected is None else arrays | {"expected": output.expected})
    else:
        chosen, history, best = list(range(len(heads))), [{"epoch": 1.0}], {}
        temperature = geometric_mean([head.temperature for head in heads])
    average.load_state_dict(average_weights([states[place] for place in chosen]))
    save_head(run.best, average, config.model_dump(), best, heads[0].box_margin, temperature, people.to_json())
    write_text(run.config, config.to_yaml())
    write_history(run.history, history)
    metrics = summarise_validation(run, config.label.classes) if len(rows) else {"temperature": temperature}
    write_json(run.metrics, metrics | {"epochs": len(history), "average_of": [names[place] for place in chosen]})
    write_manifest(run.folder)
