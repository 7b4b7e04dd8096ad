"""Whatever a config says, it ends in a run or in one clear line; the checker notices where it does not."""

from __future__ import annotations

import re
import time

import pytest

from fnn.choices import ConfigError
from fnn.registry import registry
from tests.fuzz import checker
from tests.fuzz.campaign import Report, campaign
from tests.fuzz.checker import Outcome, UnclearError, check, names_a_layer, without_data_sets
from tests.fuzz.strategies import Example, misfits

# What is looked at is how a config ends.
pytestmark = pytest.mark.usefixtures("quick_compiler")

TINY = """\
data: {source: {synthetic: {shape: [4], classes: 3, size: 20}}}
model: [{dense: 3}]
train: {epochs: 1, batch_size: 8}
"""


def ends_well(report: Report, examples: int) -> None:
    assert report.failures == {}, "\n\n".join(report.failures.values())
    assert report.examples == examples
    assert report.counts["refused"] > 0


def judge_of_misfits(outcome, example, folder):
    if outcome.kind == "refused" and not names_a_layer(outcome.message, example, folder):
        raise UnclearError("no layer is named", f"{outcome.message}\n{example!r}")


def test_some_mutated_configs_run_or_are_clear_errors():
    ends_well(campaign(30), 30)


@pytest.mark.slow
def test_250_mutated_configs_run_or_are_clear_errors():
    report = campaign(250, first_seed=100, train_every=20)
    ends_well(report, 250)
    assert report.valid > 25
    assert report.counts["ran"] > 0


def test_some_layers_that_do_not_fit_are_named_by_their_paths():
    """Without whole networks, which take seconds to trace."""
    for name, layer in list(registry["layer"].items()):
        if layer.__module__.startswith("fnn.models"):
            del registry["layer"][name]
    ends_well(campaign(30, strategy=misfits(), judge=judge_of_misfits), 30)


@pytest.mark.slow
def test_layers_that_do_not_fit_are_named_by_their_paths():
    ends_well(campaign(75, 100, strategy=misfits(), judge=judge_of_misfits), 75)


def test_a_campaign_is_the_same_for_a_seed():
    seen = [[], []]
    for those in seen:
        campaign(5, judge=lambda outcome, example, folder, those=those: those.append(example))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 5


# ---------------------------------------------------------------- the checker itself


@pytest.fixture
def checked(tmp_path):
    def run(text=TINY, *overrides, train=False):
        with without_data_sets(tmp_path):
            return check(Example(text.encode(), overrides), tmp_path, train)

    return run


def test_each_way_to_end(checked):
    assert checked() == Outcome("traced")
    assert checked(train=True) == Outcome("ran")
    assert checked(TINY, "optimizer.sgd.learning_rate=1e38", "train.epochs=9", train=True).kind == "diverged"
    refused = checked(TINY, "train.epoch=1")
    assert refused.kind == "refused"
    assert refused.message.startswith("override train.epoch=1: train.epoch: unknown key; nearest: epochs, ")


def raises(error):
    def instead(*arguments, **keywords):
        raise error

    return instead


@pytest.mark.parametrize(
    ("error", "signature"),
    [
        (TypeError("a fault"), "TypeError at"),
        (ValueError("another"), "ValueError at"),
        (MemoryError(), "a message without its place"),
        (RuntimeError("INTERNAL"), "RuntimeError at"),
        (ConfigError((), "no place"), "a message without its place"),
        (ArithmeticError("not of the loss"), "ArithmeticError at"),
        (KeyboardInterrupt(), "exit code 130, 1 lines"),
    ],
)
def test_what_may_not_be_is_noticed(checked, monkeypatch, error, signature):
    monkeypatch.setattr("fnn.commands.train.build", raises(error))
    with pytest.raises(UnclearError, match=f"^{re.escape(signature)}"):
        checked()


def test_raw_messages_are_noticed(checked, tmp_path, monkeypatch):
    error = ConfigError((), f"{tmp_path / 'config.yaml'}:2: model: 'NoneType' object is not callable")
    monkeypatch.setattr("fnn.commands.train.build", raises(error))
    with pytest.raises(UnclearError, match=r"^a raw message: NoneType"):
        checked()


def spin():
    while True:
        pass


@pytest.mark.parametrize(("hang", "limit"), [(lambda: time.sleep(60), 0.1), (spin, 0.5)])
def test_a_hang_is_noticed(checked, monkeypatch, hang, limit):
    monkeypatch.setattr(checker, "LIMIT", limit)
    monkeypatch.setattr("fnn.commands.train.build", lambda *_: hang())
    with pytest.raises(UnclearError, match=r"^hang"):
        checked()


def test_what_is_left_behind_is_noticed(checked, tmp_path, monkeypatch):
    def leave(*arguments):
        (tmp_path / "out").mkdir()
        raise ConfigError((), f"{tmp_path / 'config.yaml'}:2: model: dense1: too late")

    monkeypatch.setattr("fnn.commands.train.build", leave)
    with pytest.raises(UnclearError, match=r"^something is left behind"):
        checked()


def test_a_failure_is_made_small_and_the_search_goes_on(monkeypatch):
    real = checker.cli.train

    def fault(config, overrides, out):
        if b"digits" in config.read_bytes():
            raise TypeError("digits")
        real(config, overrides, out=out)

    monkeypatch.setattr(checker.cli, "train", fault)
    monkeypatch.setattr("tests.fuzz.campaign.SHRINKING", 2.0)
    report = campaign(40)
    assert report.examples == 40
    assert report.counts["failed"] >= 2
    assert [signature.split(" at ")[0] for signature in report.failures] == ["TypeError"]
