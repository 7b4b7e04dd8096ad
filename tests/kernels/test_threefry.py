"""fnn.kernels.quick_key: JAX's own numbers, whoever draws them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import kernels
from fnn.kernels import quick_key

KEY = jax.random.key(42)

DRAWS = {
    "normal": lambda key, shape: jax.random.normal(key, shape),
    "bfloat16": lambda key, shape: jax.random.normal(key, shape, jnp.bfloat16),
    "bernoulli": lambda key, shape: jax.random.bernoulli(key, 0.3, shape),
    "whole numbers": lambda key, shape: jax.random.randint(key, shape, -3, 4),
    "bytes": lambda key, shape: jax.random.bits(key, shape, jnp.uint8),
    "order": lambda key, shape: jax.random.permutation(key, shape[0]),
}


def same(draw, *arguments):
    wanted, got = (jax.jit(draw)(key, *arguments) for key in (KEY, quick_key(KEY)))
    np.testing.assert_array_equal(got, wanted)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)


@pytest.mark.parametrize(
    "draw, shape",
    [*((draw, (2, 3, 4)) for draw in DRAWS), *(("bytes", shape) for shape in ((7,), (0, 4), (300, 500)))],
)
def test_draws_are_those_of_jax(draw, shape, native):
    same(lambda key: DRAWS[draw](key, shape))


def test_the_first_bits_are_the_published_ones(native):
    """Of Random123, https://www.deshawresearch.com/resources_random123.html: kat_vectors, threefry2x32 20."""
    bits = jax.random.bits(quick_key(jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32))), (1,))
    assert int(bits[0]) == 0x6B200159 ^ 0x99BA4EFE


def test_keys_under_vmap_draw_as_alone(native):
    def draw(key):
        keys = jax.random.split(key, (3, 4))
        inner = jax.vmap(lambda k: jax.random.uniform(k, (5, 2)))
        return jax.vmap(inner, in_axes=1, out_axes=1)(keys)

    same(draw)


def test_keys_split_and_fold_as_jaxs():
    same(lambda key: jax.random.key_data(jax.random.split(key, (2, 3))))
    same(lambda key: jax.random.key_data(jax.random.split(jax.random.fold_in(key, 5))))


def test_wide_numbers_and_the_older_order_are_jaxs():
    with jax.enable_x64(True):
        same(lambda key: jax.random.normal(key, (3, 4), jnp.float64))
    with jax.threefry_partitionable(False):
        same(lambda key: jax.random.bits(key, (3, 5), jnp.uint8))
        same(lambda key: jax.random.normal(key, (3, 5)))


def test_a_key_of_the_older_form_draws_the_same():
    old = jax.random.PRNGKey(3)
    np.testing.assert_array_equal(jax.random.normal(quick_key(old), (4,)), jax.random.normal(old, (4,)))


def test_keys_of_other_generators_and_in_plain_programs_are_given_back():
    other = jax.random.key(0, impl="rbg")
    assert quick_key(other) is other
    assert jax.random.key_impl(quick_key(quick_key(KEY))) == jax.random.key_impl(quick_key(KEY))
    with kernels.plain():
        assert quick_key(KEY) is KEY


@pytest.mark.cpu
def test_an_exported_program_holds_nothing_native():
    def draw(key):
        return jax.random.bits(quick_key(jax.random.wrap_key_data(key)), (9,))

    data = jax.random.key_data(KEY)
    if kernels.status().active == "onednn":
        assert "fnn_threefry" in jax.jit(draw).lower(data).as_text()
    exported = jax.export.export(jax.jit(draw))(data)
    assert "fnn_threefry" not in exported.mlir_module()
    np.testing.assert_array_equal(exported.call(data), jax.random.bits(KEY, (9,)))


def test_a_size_may_be_symbolic():
    (n,) = jax.export.symbolic_shape("n")
    x, key = jax.ShapeDtypeStruct((n, 6), jnp.float32), jax.eval_shape(lambda: jax.random.key_data(KEY))
    dropout = fnn.dropout(0.25)

    def drop(x, data):
        return dropout.apply({}, {}, x, key=jax.random.wrap_key_data(data), train=True)[0]

    dropped = jax.export.export(jax.jit(drop))(x, key).call(jnp.ones((4, 6)), jax.random.key_data(KEY))
    np.testing.assert_array_equal(dropped != 0, jax.random.bernoulli(KEY, 0.75, (4, 6)))


def test_layers_draw_what_jax_draws():
    x = jnp.ones((8, 6, 6, 3))
    params, _ = fnn.conv(4, 3).init(KEY, x)
    wanted = jax.nn.initializers.he_normal()(jax.random.split(KEY)[0], (3, 3, 3, 4))
    np.testing.assert_array_equal(params["kernel"], wanted)
    y, _ = fnn.dropout(0.25).apply({}, {}, x, key=KEY, train=True)
    np.testing.assert_array_equal(y != 0, jax.random.bernoulli(KEY, 0.75, x.shape))
