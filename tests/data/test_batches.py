"""The order of the examples, and the normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from fnn.data import batches as batches_module
from fnn.data import epoch_order, evaluation_batches, fit_normalizer, steps_per_epoch


@pytest.mark.parametrize(("n", "batch"), [(1, 1), (5, 8), (8, 8), (11, 4), (12, 4), (9, 1)])
def test_an_epoch_is_whole_batches_of_distinct_examples(n, batch):
    for epoch in range(4):
        order = np.asarray(epoch_order(2**31 - 1, epoch, n, batch))
        assert order.shape == ((1, n) if n < batch else (n // batch, batch))
        assert order.shape[0] == steps_per_epoch(n, batch)
        assert order.dtype == np.int32
        assert len(set(order.ravel().tolist())) == order.size
        assert order.min() >= 0
        assert order.max() < n


@settings(deadline=None)
@given(n=st.integers(1, 60), batch=st.integers(1, 60))
def test_evaluation_sees_every_example_once_in_order(n, batch):
    indices, mask = evaluation_batches(n, batch)
    assert indices.shape == mask.shape
    assert indices.shape[1] == min(n, batch)
    assert indices[mask].tolist() == list(range(n))
    assert not indices[~mask].any()
    assert not (~mask)[:-1].any(), "only the last batch is filled up"
    assert mask[-1].any()


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    orders = {(s, e): np.asarray(epoch_order(s, e, 50, 8)) for s in range(3) for e in range(3)}
    for (seed, epoch), order in orders.items():
        np.testing.assert_array_equal(order, epoch_order(seed, epoch, 50, 8))
    assert len({order.tobytes() for order in orders.values()}) == 9


def test_the_remainder_is_another_each_epoch():
    left_out = [frozenset(range(11)) - set(np.ravel(epoch_order(0, e, 11, 4)).tolist()) for e in range(20)]
    assert {len(each) for each in left_out} == {3}
    assert len(set(left_out)) > 10
    assert frozenset.union(*left_out) == frozenset(range(11))


def test_every_place_is_equally_likely():
    orders = jax.vmap(lambda epoch: epoch_order(0, epoch, 5, 5))(jnp.arange(2000))[:, 0]
    counts = np.stack([np.bincount(np.asarray(orders[:, i]), minlength=5) for i in range(5)])
    # each count is binomial (2000, 1/5): mean 400, standard deviation 17.9
    assert np.abs(counts - 400).max() < 5 * 17.9


def test_one_program_serves_every_epoch():
    traces = []

    @jax.jit
    def order(seed, epoch):
        traces.append(1)
        return epoch_order(seed, epoch, 11, 4)

    for epoch in range(3):
        np.testing.assert_array_equal(order(0, epoch), epoch_order(0, epoch, 11, 4))
    assert len(traces) == 1


@pytest.mark.parametrize(
    "function", [steps_per_epoch, evaluation_batches, lambda n, b: epoch_order(0, 0, n, b)]
)
@pytest.mark.parametrize(("n", "batch"), [(0, 4), (4, 0), (4, -1)])
def test_nothing_and_less_are_refused(function, n, batch):
    with pytest.raises(
        ValueError, match=f"at least 1 example and a batch_size of at least 1, got {n} and {batch}"
    ):
        function(n, batch)


@pytest.mark.parametrize("shape", [(57, 3), (20, 4, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalisation_agrees_with_scikit_learn(shape, dtype, monkeypatch):
    monkeypatch.setattr(batches_module, "CHUNK", 100)  # a few rows at a time
    x = (np.random.default_rng(0).uniform(0, 256, shape) * [0.1, 0.5, 1]).astype(dtype)
    normalize = fit_normalizer(x)
    oracle = StandardScaler().fit(x.reshape(-1, 3).astype(np.float64))
    np.testing.assert_allclose(normalize.mean, oracle.mean_, rtol=1e-6)
    np.testing.assert_allclose(normalize.std, oracle.scale_, rtol=1e-6)
    wanted = oracle.transform(x.reshape(-1, 3).astype(np.float64)).reshape(shape)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for normalized in (normalize(x), jax.jit(normalize)(x)):
            np.testing.assert_allclose(normalized, wanted, atol=2e-6)
            assert normalized.dtype == jnp.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_channel_is_only_shifted(dtype):
    # in float64 the mean of many 0.1 is rounded, and the variance not quite 0
    x = np.stack([np.full(1000, 0.1), np.arange(1000) % 2], -1).astype(dtype)
    normalize = fit_normalizer(x)
    assert normalize.std.tolist() == [1.0, 0.5]
    np.testing.assert_allclose(normalize(x)[:, 0], 0, atol=1e-7)


def test_the_variance_of_values_far_from_0_is_right():
    x = (1e6 + np.arange(8) % 2).reshape(-1, 1).astype(np.float32)
    assert fit_normalizer(x).std.tolist() == [0.5]


def test_a_spread_too_small_for_float32_does_not_divide_by_0():
    x = np.array([[0.0], [1e-45]], np.float32)
    assert fit_normalizer(x).std.tolist() == [1.0]


def test_normalisation_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"fit_normalizer: expected inputs .*, got \(3,\)"):
        fit_normalizer(np.zeros(3))
    with pytest.raises(ValueError, match=r"fit_normalizer: expected inputs .*, got \(0, 3\)"):
        fit_normalizer(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"Normalizer: expected 3 channels, got the shape \(5, 2\)"):
        fit_normalizer(np.zeros((4, 3)))(np.zeros((5, 2)))
