"""fnn.experiment.schema: defaults, strict values, unknown keys, the list of fields."""

from __future__ import annotations

import re

import pytest

from fnn import kernels
from fnn.choices import ConfigError
from fnn.experiment import Experiment, check, fields


def refused(tree):
    with pytest.raises(ConfigError) as caught:
        check(tree)
    return caught.value


def test_every_field_has_its_default():
    assert check({"model": ["relu"]}).model_dump() == {
        "seed": 0,
        "precision": "float32",
        "data": {"source": "digits", "path": None, "validation": 0.0, "augment": [], "normalize": True},
        "model": ["relu"],
        "init_from": {"path": None, "replace": [], "sha256": None},
        "loss": "cross_entropy",
        "metrics": None,
        "optimizer": {"adam": 1e-3},
        "train": {
            "epochs": 10,
            "batch_size": 128,
            "reduction": "mean",
            "l2": 0.0,
            "freeze": [],
            "rates": {},
            "clip": None,
            "accumulate": 1,
            "ema": None,
            "log_every": "1 epoch",
            "best": None,
            "patience": None,
            "on_nonfinite": "stop",
            "checkpoint": {"every": "1 epoch", "spacing": 5.0, "keep": 2},
            "execution": {"mode": "auto", "kernels": "auto", "threads": None, "deterministic": False},
        },
        "log": [],
    }


def test_every_value_given_is_kept():
    given = {
        "seed": 7,
        "precision": "bfloat16",
        "data": {
            "source": {"synthetic": {"size": 8}},
            "path": "/a",
            "validation": 0.25,
            "augment": ["flip", {"shift": 1}],
            "normalize": {"mean": [1.0, 2.0], "std": [0.5], "bgr": True},
        },
        "model": {"mlp": [4, 2]},
        "init_from": {"path": "/w", "replace": ["head/*"], "sha256": 64 * "0"},
        "loss": {"cross_entropy": {"label_smoothing": 0.1}},
        "metrics": ["accuracy", {"top_k": 3}],
        "optimizer": [{"clip_by_global_norm": 1.0}, "adam"],
        "train": {
            "epochs": 3,
            "batch_size": 5,
            "reduction": "sum",
            "l2": {"*/kernel": 0.5},
            "freeze": ["features/**"],
            "rates": {"*/bias": 2.0},
            "clip": 2.0,
            "accumulate": 4,
            "ema": 0.99,
            "log_every": 10,
            "best": {"max": "accuracy"},
            "patience": 3,
            "on_nonfinite": "skip",
            "checkpoint": {"every": "5 minutes", "spacing": 0.0, "keep": 1},
            "execution": {"mode": "step", "kernels": "xla", "threads": 2, "deterministic": True},
        },
        "log": ["tensorboard", {"mlflow": {"experiment": "x"}}],
    }
    assert check(given).model_dump() == given


def test_an_experiment_cannot_be_changed():
    experiment = check({"model": ["relu"]})
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        experiment.train.epochs = 1


@pytest.mark.parametrize(
    ("tree", "path", "nearest"),
    [
        ({"sead": 1, "model": []}, ("sead",), "seed"),
        ({"models": [], "model": []}, ("models",), "model"),
        ({"modle": []}, ("modle",), "model"),  # the typing error itself, not only that model is missing
        ({"model": [], "data": {"sorce": "digits"}}, ("data", "sorce"), "source"),
        ({"model": [], "data": {"validate": 0.1}}, ("data", "validate"), "validation"),
        ({"model": [], "train": {"epoch": 3}}, ("train", "epoch"), "epochs"),
        ({"model": [], "train": {"batchsize": 3}}, ("train", "batchsize"), "batch_size"),
        ({"model": [], "train": {"execution": {"thread": 1}}}, ("train", "execution", "thread"), "threads"),
        ({"model": [], "optimiser": "adam"}, ("optimiser",), "optimizer"),
        ({"model": [], "epochs": 3}, ("epochs",), ""),
    ],
)
def test_an_unknown_key_names_its_path_and_the_nearest(tree, path, nearest):
    error = refused(tree)
    assert error.path == path
    dotted = ".".join(path)
    assert re.match(rf"{dotted}: unknown key; nearest: {nearest}", str(error)), str(error)


def test_the_model_is_required():
    error = refused({"seed": 1})
    assert error.path == ("model",)
    assert str(error) == "model: is required: a list of layers, or a model by name"


INTEGER, NUMBER = "a valid integer", "a valid number"
NORMALIZE = "a valid boolean or 'fit' or 'weights' or a valid dictionary"
NO_CHOICE = "a valid string or a valid dictionary"

WRONG = [
    # whole numbers
    ("seed", "3", f"{INTEGER}, got '3'"),
    ("seed", True, f"{INTEGER}, got true"),
    ("seed", 3.0, f"{INTEGER}, got 3.0"),
    ("seed", None, f"{INTEGER}, got null"),
    ("seed", -1, "greater than or equal to 0, got -1"),
    ("seed", 2**32, "less than 4294967296, got 4294967296"),
    ("train.epochs", "3", f"{INTEGER}, got '3'"),
    ("train.epochs", True, f"{INTEGER}, got true"),
    ("train.epochs", 1e3, f"{INTEGER}, got 1000.0"),
    ("train.epochs", 0, "greater than 0, got 0"),
    ("train.batch_size", 0, "greater than 0, got 0"),
    ("train.batch_size", 2**31, "less than 2147483648, got 2147483648"),
    ("train.epochs", 10**18, "less than 2147483648, got 1000000000000000000"),
    ("train.batch_size", "64", f"{INTEGER}, got '64'"),
    ("train.accumulate", 0, "greater than 0, got 0"),
    ("train.accumulate", 1.5, f"{INTEGER}, got 1.5"),
    ("train.log_every", 0, "greater than 0 or a valid string, got 0"),
    ("train.log_every", True, f"{INTEGER} or a valid string, got true"),
    ("train.log_every", 1.5, f"{INTEGER} or a valid string, got 1.5"),
    # numbers
    ("data.validation", "0.1", f"{NUMBER}, got '0.1'"),
    ("data.validation", True, f"{NUMBER}, got true"),
    ("data.validation", 1.0, "less than 1, got 1.0"),
    ("data.validation", -0.1, "greater than or equal to 0, got -0.1"),
    ("data.validation", float("nan"), "less than 1, got NaN"),
    ("train.l2", "1e-3", NUMBER),
    ("train.l2", True, NUMBER),
    ("train.l2", -1.0, "greater than or equal to 0"),
    ("train.l2", float("inf"), "a finite number"),
    ("train.l2", None, f"{NUMBER} or a valid dictionary, got null"),
    ("train.clip", 0.0, "greater than 0, got 0.0"),
    ("train.clip", "1", f"{NUMBER}, got '1'"),
    ("train.clip", float("nan"), "greater than 0, got NaN"),
    ("train.ema", 1.0, "less than 1, got 1.0"),
    ("train.ema", 0.0, "greater than 0, got 0.0"),
    ("train.ema", True, f"{NUMBER}, got true"),
    # words, bools
    ("precision", "float16", "'float32' or 'bfloat16', got 'float16'"),
    ("train.reduction", "max", "'mean' or 'sum', got 'max'"),
    ("train.execution.mode", "fast", "'auto', 'scan' or 'step', got 'fast'"),
    ("train.execution.kernels", "cudnn", "'auto', 'onednn', 'jax' or 'xla', got 'cudnn'"),
    ("train.execution.threads", 0, "greater than 0, got 0"),
    ("data.normalize", 1, f"{NORMALIZE}, got 1"),
    ("data.normalize", "true", f"{NORMALIZE}, got 'true'"),
    ("data.normalize", {"mean": 1.0}, 'a mapping with std, got {"mean": 1.0}'),
    ("train.rates", 0.1, "a valid dictionary, got 0.1"),
    ("init_from", 3, "a valid dictionary, got 3"),
    ("init_from", {"replace": "head/*"}, "a path with the rest, got {"),
    ("init_from.sha256", "1", "64 hexadecimal digits, got '1'"),
    ("data.path", 3, "a valid string, got 3"),
    # choices and lists of them
    ("data.source", 3, f"{NO_CHOICE}, got 3"),
    ("data.source", ["digits"], f'{NO_CHOICE}, got ["digits"]'),
    ("loss", None, f"{NO_CHOICE}, got null"),
    ("loss", ["hinge"], f'{NO_CHOICE}, got ["hinge"]'),
    ("data.augment", {"shift": 1}, 'a valid list, got {"shift": 1}'),
    ("metrics", "accuracy", "a valid list, got 'accuracy'"),
    ("model", 3, f"{NO_CHOICE} or a valid list, got 3"),
    ("model", None, f"{NO_CHOICE} or a valid list, got null"),
    ("optimizer", 0.1, f"{NO_CHOICE} or a valid list, got 0.1"),
    ("data", "digits", "got 'digits'"),
    ("data", None, "got null"),
    ("train", 3, "got 3"),
    ("train", [], "got []"),
]


def tree_with(dotted, value):
    for name in reversed(dotted.split(".")):
        value = {name: value}
    return {"model": ["relu"], **value}


@pytest.mark.parametrize(("dotted", "value", "message"), WRONG)
def test_a_wrong_value_says_where_what_was_expected_and_what_was_got(dotted, value, message):
    error = refused(tree_with(dotted, value))
    assert ".".join(map(str, error.path)) == dotted
    text = str(error)
    assert text.startswith(f"{dotted}: expected ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("tree", "path", "message"),
    [
        ({"data": {"augment": ["flip", 3]}}, ("data", "augment", 1), f"{NO_CHOICE}, got 3"),
        ({"metrics": [None]}, ("metrics", 0), f"{NO_CHOICE}, got null"),
        ({"optimizer": ["adam", 3]}, ("optimizer", 1), f"{NO_CHOICE}, got 3"),
        ({"train": {"l2": {"*/kernel": -0.1}}}, ("train", "l2", "*/kernel"), "equal to 0, got -0.1"),
        ({"train": {"l2": {"*/kernel": "x"}}}, ("train", "l2", "*/kernel"), f"{NUMBER}, got 'x'"),
        ({"train": {"rates": {"*": 0.0}}}, ("train", "rates", "*"), "greater than 0, got 0.0"),
        ({"train": {"freeze": ["a", 3]}}, ("train", "freeze", 1), "a valid string, got 3"),
        (
            {"data": {"normalize": {"mean": [1.0], "std": [0.0]}}},
            ("data", "normalize", "std", 0),
            "than 0, got 0.0",
        ),
    ],
)
def test_a_wrong_item_is_named_by_its_own_path(tree, path, message):
    error = refused({"model": ["relu"], **tree})
    assert error.path == path
    assert message in str(error)


@pytest.mark.parametrize(
    ("dotted", "value", "kept"),
    [
        ("data.validation", 0, 0.0),  # a whole number is a number
        ("train.clip", 1, 1.0),
        ("train.l2", 0, 0.0),
        ("train.log_every", "10%", "10%"),
        ("train.log_every", 5, 5),
        ("metrics", [], []),
        ("train.freeze", "features/**", ["features/**"]),
        ("data.normalize", {"mean": 1, "std": 2}, {"mean": [1.0], "std": [2.0], "bgr": False}),
        ("init_from", "/w", {"path": "/w", "replace": [], "sha256": None}),
        ("init_from", None, {"path": None, "replace": [], "sha256": None}),
        ("seed", 2**32 - 1, 2**32 - 1),
    ],
)
def test_values_at_the_edge_are_taken(dotted, value, kept):
    got = check(tree_with(dotted, value)).model_dump()
    for name in dotted.split("."):
        got = got[name]
    assert got == kept
    assert type(got) is type(kept)


def test_fields_lists_every_field_with_type_default_and_meaning():
    rows = fields()
    dump, expected = check({"model": ["relu"]}).model_dump(), []
    for name, value in dump.items():
        section = name in ("data", "init_from", "train")
        expected += [f"{name}.{inner}" for inner in value] if section else [name]
    for section in ("checkpoint", "execution"):
        place = expected.index(f"train.{section}")
        expected[place : place + 1] = [f"train.{section}.{name}" for name in dump["train"][section]]
    assert [row[0] for row in rows] == expected
    table = {name: (kind, default) for name, kind, default, _ in rows}
    assert table["seed"] == ("int", "0")
    assert table["precision"] == ("float32 | bfloat16", "'float32'")
    assert table["data.source"] == ("choice", "'digits'")
    assert table["data.path"] == ("str | null", "null")
    assert table["data.augment"] == ("list", "[]")
    assert table["data.normalize"] == ("bool | fit | weights | mapping", "true")
    assert table["model"] == ("choice, list", "required")
    assert table["metrics"] == ("list | null", "null")
    assert table["optimizer"] == ("choice, list", '{"adam": 0.001}')
    assert table["init_from.replace"] == ("list", "[]")
    assert table["train.l2"] == ("float | mapping", "0.0")
    assert table["train.ema"] == ("float | null", "null")
    assert table["train.log_every"] == ("int | str", "'1 epoch'")
    assert table["train.execution.mode"] == ("auto | scan | step", "'auto'")
    assert table["train.execution.threads"] == ("int | null", "null")
    assert all(len(meaning) > 5 for *_, meaning in rows)


def test_the_kernels_are_those_that_there_are():
    kinds = {name: kind for name, kind, *_ in fields()}
    assert kinds["train.execution.kernels"].split(" | ") == list(kernels.CHOICES)


def test_the_meanings_name_every_registered_choice():
    from fnn.registry import registry

    meaning = {name: text for name, _, _, text in fields()}
    groups = {"source": "data.source", "augment": "data.augment", "loss": "loss", "metric": "metrics"}
    for group, field in groups.items():
        own = {name for name, item in registry[group].items() if item.__module__.startswith("fnn.")}
        listed = set(re.findall(r"[a-z_0-9]+", meaning[field]))
        assert own <= listed, f"{field} does not name {own - listed}"


def test_an_experiment_can_be_made_in_python():
    experiment = Experiment(model={"linear": 10}, train={"epochs": 1})
    assert experiment == check({"model": {"linear": 10}, "train": {"epochs": 1}})
    with pytest.raises(ValueError, match="epoch"):
        Experiment(model={"linear": 10}, train={"epoch": 1})
