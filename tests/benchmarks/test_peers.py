"""Every peer computes what fnn computes: logits, training steps, in both modes and dtypes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from benchmarks.jobs import JOBS, MODES, Job
from benchmarks.networks import Conv, Dense, Depthwise, Norm, Residual, make_weights
from benchmarks.peers import PEERS, modes, prepare
from benchmarks.worker import BOUNDS, difference

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("default"),  # what other libraries warn of is theirs
]

TINY = Job(
    layers=(
        *(Conv("stem", 4, 3, 2), Norm("stem_norm"), "relu", "max_pool"),
        *(Depthwise("depthwise", 2), Norm("norm")),
        Residual("block", (Conv("conv", 6, 3),), (Conv("conv", 6, 1, bias=True), Norm("norm"))),
        *("global_avg_pool", Dense("head", 10)),
    ),
    shape=(16, 16, 3),
    batch=4,
    batches=3,
    optimizer="sgd",
)
FLAT = replace(JOBS["digits_mlp"], batch=4, batches=3)


def peers(*but):
    names = [name for name in PEERS if name not in ("fnn", *but)]
    needs = {"dm-haiku": "haiku"}
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                find_spec(needs.get(PEERS[name].package, PEERS[name].package)) is None,
                reason=f"needs {PEERS[name].package}",
            ),
        )
        for name in names
    ]


def small(name):
    return replace(JOBS[name], batch=min(JOBS[name].batch, 2), batches=1)


@cache
def expected(job):
    return prepare("fnn", job, "float32", "dispatched").logits()


@cache
def expected_losses(job):
    call = prepare("fnn", job, "float32", "dispatched").call
    return np.stack([call(1) for _ in range(job.batches)])


@pytest.mark.parametrize("peer", peers("torch_compiled"))
@pytest.mark.parametrize("name", ["mlp", "lenet", "depthwise", "resnet18", "resnet18_infer1"])
def test_logits_agree_with_fnns(peer, name):
    logits = prepare(peer, small(name), "float32", "dispatched").logits()
    assert logits.dtype == np.float32
    assert difference(logits, expected(small(name))) < 1e-5


@pytest.mark.parametrize("peer", ["fnn", *peers("torch_compiled")])
@pytest.mark.parametrize("job", [TINY, replace(TINY, optimizer=None)], ids=["train", "infer"])
def test_logits_agree_in_bfloat16(peer, job):
    error = difference(prepare(peer, job, "bfloat16", "dispatched").logits(), expected(job))
    assert 1e-4 < error < BOUNDS["cpu", "bfloat16"]


@pytest.mark.parametrize("peer", peers())
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("job", [TINY, FLAT], ids=["sgd", "adam"])
def test_training_agrees_with_fnns(peer, mode, job):
    if mode not in modes(peer, job):
        pytest.skip("PyTorch has no scan")
    run = prepare(peer, job, "float32", mode)
    assert run.steps == (job.batches if mode == "scanned" else 1)
    losses = np.stack([run.call(1) for _ in range(job.batches // run.steps)]).reshape(-1)
    np.testing.assert_allclose(losses, expected_losses(job), rtol=1e-4)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
@pytest.mark.slow
def test_what_torch_compiles_for_inference_agrees():
    job = replace(TINY, optimizer=None)
    run = prepare("torch_compiled", job, "bfloat16", "dispatched")
    assert difference(run.logits(), expected(job)) < BOUNDS["cpu", "bfloat16"]
    run.call(2)


@pytest.mark.parametrize("peer", peers(*(name for name, peer in PEERS.items() if peer.kind == "PyTorch")))
def test_every_product_is_made_in_bfloat16(peer):
    build = import_module(f"benchmarks.peers.{PEERS[peer].module}").build
    model = build(TINY.layers, TINY.shape, make_weights(TINY.layers, TINY.shape), jnp.dtype(jnp.bfloat16))
    x = jnp.asarray(model.layout(np.zeros((2, *TINY.shape), np.float32)))
    traced = jax.make_jaxpr(lambda p, s, x: model.apply(p, s, x, True))(model.params, model.state, x)
    products = [
        # fnn's convolution casts its kernel to the type of its input, inside
        {variable.aval.dtype for variable in equation.invars[: OPERANDS[equation.primitive.name]]}
        for equation in equations(traced.jaxpr)
        if equation.primitive.name in OPERANDS
    ]
    assert len(products) == 5
    assert all(dtypes == {jnp.dtype(jnp.bfloat16)} for dtypes in products)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(np.float32)}


OPERANDS = {"conv_general_dilated": 2, "dot_general": 2, "conv_forward": 1}
"""Products, and how many of their operands say in which type they are made."""


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)
