"""The main job: a network that learns to read real handwritten digits."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import ArgumentError, DeviceError, FileFormatError
from gpugrad.train import HELD_OUT, images_and_labels, split, train_digits


def test_digits_are_read_from_the_default_settings_and_the_checkpoint_reads_the_same(tmp_path):
    path = str(tmp_path / "digits.safetensors")
    first = train_digits(save=path)
    assert first.accuracy > 0.98
    assert first.held_out == 359
    assert len(first.history) == first.epochs == 40
    assert first.history[-1]["loss"] < first.history[0]["loss"]
    again = train_digits(load=path, seed=99)
    assert again.predictions == first.predictions
    assert (again.accuracy, again.epochs, again.seed) == (first.accuracy, 0, first.seed)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_digits_are_read_with_every_optimizer_and_seed(optimizer, seed):
    assert train_digits(optimizer=optimizer, seed=seed).accuracy > 0.98


def test_a_seed_gives_the_same_run_and_another_seed_another():
    a, b, c = (train_digits(epochs=1, seed=seed) for seed in (5, 5, 6))
    assert (a.history, a.predictions) == (b.history, b.predictions)
    assert a.history != c.history


def test_training_goes_on_from_a_checkpoint(tmp_path):
    path = str(tmp_path / "digits.npz")
    first = train_digits(epochs=2, save=path)
    more = train_digits(epochs=2, load=path, lr=0.02)
    assert more.history[-1]["loss"] < first.history[-1]["loss"]


def test_a_fifth_of_every_digit_is_held_out_and_nothing_is_in_both_parts():
    _, labels = images_and_labels()
    training, held_out = split(labels, HELD_OUT, 3)
    assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(len(labels)))
    for digit in range(10):
        assert (labels[held_out] == digit).sum() == round(HELD_OUT * (labels == digit).sum())


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"optimizer": "lbfgs"}, ArgumentError, "train: expected an optimizer among sgd, adam, adamw, got 'lbfgs'"),
    ({"epochs": -1}, ArgumentError, "epochs=-1"),
    ({"batch": 0}, ArgumentError, "batch=0"),
    ({"seed": -1}, ArgumentError, "seed=-1"),
    ({"device": "tpu"}, DeviceError, "tpu"),
    ({"lr": -1.0, "epochs": 1}, ArgumentError, "SGD: expected lr at least 0"),
])
def test_bad_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        train_digits(**options)


@pytest.mark.parametrize("tree", [
    {"w": np.ones(3)}, [1, 2], np.ones(4), {"params": [{"w": np.ones((2, 2)), "b": np.ones(2)}], "seed": 0},
    {"params": 3, "seed": 0}, {"params": [3], "seed": 0}, {"params": [{"w": 3, "b": 4}], "seed": 0},
])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, tree):
    gg.save(tmp_path / "x.npz", tree)
    with pytest.raises(FileFormatError, match="train: expected"):
        train_digits(load=str(tmp_path / "x.npz"))
