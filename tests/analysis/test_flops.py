"""fnn.analysis.flops: against the formulas, through scans, gradients and kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import fnn
from fnn import kernels
from fnn.analysis.flops import flops

X, W = jnp.ones((8, 16)), jnp.ones((16, 16))
PRODUCT = 2 * 8 * 16 * 16


def scanned(x, length=5, **options):
    return jax.lax.scan(lambda c, _: (c @ W, None), x, None, length=length, **options)[0]


def test_a_product_is_two_operations_for_each_pair_of_factors():
    assert flops(jnp.matmul, X, W) == PRODUCT
    assert flops(jnp.matmul, *fnn.spec((X, W))) == PRODUCT


@pytest.mark.parametrize("unroll", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 5])
def test_a_scan_counts_in_all_its_steps(length, unroll):
    assert flops(lambda x: scanned(x, length, unroll=unroll), X) == pytest.approx(length * PRODUCT, abs=20)


def test_a_scan_in_a_scan_counts_in_all_its_steps():
    def outer(x):
        return jax.lax.scan(lambda c, _: (scanned(c) @ W, None), x, None, length=3)[0]

    assert flops(outer, X) == pytest.approx(3 * (5 + 1) * PRODUCT, abs=60)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: lambda x: jax.vmap(f)(x[None])])
def test_a_scan_is_found_inside_of_other_programs(wrap):
    assert flops(lambda x: wrap(scanned)(x) @ W, X) == pytest.approx(6 * PRODUCT, abs=60)


def test_a_gradient_through_a_scan_is_two_products_more_a_step():
    def loss(w):
        return jax.lax.scan(lambda c, _: (c @ w, None), X, None, length=5)[0].sum()

    work = flops(jax.grad(loss), W)
    assert work == pytest.approx(3 * 5 * PRODUCT, rel=0.15)  # and sums of the gradients of the steps


def test_a_repeated_layer_counts_in_all_its_copies():
    one, three = (fnn.serial(fnn.repeat(fnn.dense(16, bias=False), n)) for n in (1, 3))
    for layer, n in ((one, 1), (three, 3)):
        params, state = layer.init(jax.random.key(0), X)
        work = flops(lambda p, x, layer=layer, state=state: layer.apply(p, state, x)[0], params, X)
        assert work == pytest.approx(n * PRODUCT, abs=20)


def test_it_is_counted_on_the_kernels_of_xla():
    seen = []

    def function(x):
        seen.append(kernels.status().active)
        return x + x

    with kernels.use("jax"):
        assert flops(function, X) == X.size
    assert set(seen) == {"xla"}


def test_nothing_is_computed():
    def function(x):
        assert isinstance(x, jax.core.Tracer)
        return x * 2

    assert flops(function, X) == X.size
