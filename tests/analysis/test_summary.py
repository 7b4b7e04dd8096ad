"""fnn.summary: parameters and FLOPs against the formulas, the totals, the table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import fnn
import fnn.analysis.flops as flops_module
from fnn.experiment.model import build_model


def rows(model, *shape):
    """By path: kind, output, parameters, FLOPs."""
    table = fnn.summary(model, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert len({row.path for row in table.rows}) == len(table.rows), "a path stands in the table twice"
    return {row.path: (row.kind, row.output, row.parameters, row.flops) for row in table.rows}


def taps(size, kernel, stride=1):
    """For SAME padding along one axis: how many window cells lie inside the input, over all outputs."""
    out = -(-size // stride)
    before = max((out - 1) * stride + kernel - size, 0) // 2
    return sum(0 <= i * stride - before + k < size for i in range(out) for k in range(kernel))


# ---------------------------------------------------------------- one layer

DENSE = 3 * (2 * 4 * 5 + 5)  # a product and a sum for each weight, a sum for each bias, over 3 rows
VALID = 2 * (2 * 3 * 3 * 4 * 8 * 6 * 5 + 8 * 6 * 5)  # 2 pictures, 6 x 5 windows


@pytest.mark.parametrize(
    ("layer", "shape", "output", "parameters", "flops"),
    [
        (fnn.dense(5), (3, 4), (3, 5), 25, DENSE),
        (fnn.dense(5, bias=False), (3, 4), (3, 5), 20, 3 * 2 * 4 * 5),
        (fnn.conv(8, 3, padding="VALID"), (2, 8, 7, 4), (2, 6, 5, 8), 3 * 3 * 4 * 8 + 8, VALID),
        (
            fnn.conv(8, 3, padding="VALID", bias=False),
            (1, 8, 8, 4),
            (1, 6, 6, 8),
            3 * 3 * 4 * 8,
            2 * 3 * 3 * 4 * 8 * 36,
        ),
        (
            fnn.conv(8, (3, 5), stride=(2, 1)),
            (1, 9, 8, 4),
            (1, 5, 8, 8),
            3 * 5 * 4 * 8 + 8,
            2 * taps(9, 3, 2) * taps(8, 5) * 4 * 8 + 8 * 5 * 8,  # cells of padding are not counted
        ),
        (
            fnn.conv(8, 3, padding="VALID", groups=2, bias=False),
            (1, 8, 8, 4),
            (1, 6, 6, 8),
            3 * 3 * 2 * 8,
            2 * 3 * 3 * 2 * 8 * 36,
        ),
        (fnn.conv(6, 3, padding="VALID"), (1, 10, 4), (1, 8, 6), 3 * 4 * 6 + 6, 2 * 3 * 4 * 6 * 8 + 8 * 6),
        (fnn.relu, (2, 7), (2, 7), 0, 14),
        (fnn.flatten, (2, 3, 4, 5), (2, 60), 0, 0),
        (fnn.dropout(0.5), (2, 7), (2, 7), 0, 0),  # as in evaluation
    ],
)
def test_a_layer_has_the_parameters_and_flops_of_its_formula(layer, shape, output, parameters, flops):
    table = fnn.summary(layer, jax.ShapeDtypeStruct(shape, jnp.float32))
    (row,) = table.rows
    assert (row.path, row.kind, row.output, row.parameters) == ("", layer.kind, output, parameters)
    assert row.flops == flops
    assert (table.parameters, table.flops) == (row.parameters, row.flops)


# ---------------------------------------------------------------- models


def test_a_network_is_the_rows_of_its_layers_in_order():
    model = fnn.serial(
        fnn.conv(8, 3, padding="VALID"), fnn.relu, fnn.flatten, fnn.dense(16), fnn.tanh, head=fnn.dense(10)
    )
    table = fnn.summary(model, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    assert [(r.path, r.kind, r.output, r.parameters) for r in table.rows] == [
        ("conv1", "conv", (1, 6, 6, 8), 3 * 3 * 3 * 8 + 8),
        ("relu1", "relu", (1, 6, 6, 8), 0),
        ("flatten1", "flatten", (1, 288), 0),
        ("dense1", "dense", (1, 16), 288 * 16 + 16),
        ("tanh1", "tanh", (1, 16), 0),
        ("head", "dense", (1, 10), 16 * 10 + 10),
    ]
    assert table.parameters == sum(row.parameters for row in table.rows) == 224 + 4624 + 170
    assert table.flops == sum(row.flops for row in table.rows)


def test_the_total_is_the_count_of_the_models_parameters():
    model = fnn.lenet(classes=7, features=(4, 6), hidden=20)
    x = jnp.zeros((1, 12, 12, 1))
    params, _ = model.init(jax.random.key(0), x)
    table = fnn.summary(model, x)
    assert table.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(row.parameters for row in table.rows) == table.parameters


def test_a_residual_block_shows_what_is_inside():
    body = fnn.serial(fnn.conv(4, 3), fnn.batch_norm(), fnn.relu)
    table = rows(fnn.serial(fnn.residual(body), fnn.residual(fnn.dense(6), skip=fnn.dense(6))), 2, 8, 8, 4)
    conv = 2 * (2 * taps(8, 3) ** 2 * 4 * 4 + 4 * 64)
    assert list(table) == [
        "residual1/body/conv1",
        "residual1/body/batch_norm1",
        "residual1/body/relu1",
        "residual2/body",
        "residual2/skip",
    ]
    assert table["residual1/body/conv1"] == ("conv", (2, 8, 8, 4), 3 * 3 * 4 * 4 + 4, conv)
    assert table["residual1/body/batch_norm1"][2] == 8
    assert table["residual2/skip"][2:] == (4 * 6 + 6, 2 * 64 * (2 * 4 * 6 + 6))


def test_branches_stand_one_below_the_other():
    table = rows(fnn.concat(fnn.dense(3), wide=fnn.dense(4)), 1, 5)
    assert table == {
        "dense1": ("dense", (1, 3), 18, 2 * 5 * 3 + 3),
        "wide": ("dense", (1, 4), 24, 2 * 5 * 4 + 4),
    }


def test_remat_is_transparent():
    model = fnn.serial(fnn.dense(4), fnn.relu)
    assert rows(fnn.remat(model), 1, 3) == rows(model, 1, 3)


@pytest.mark.parametrize("n", [1, 3])
def test_a_repeated_layer_counts_all_its_copies_when_it_is_scanned(n):
    """The scan traces its body once."""
    x = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    table = fnn.summary(fnn.serial(fnn.repeat(fnn.dense(4), n), fnn.dense(2)), x)
    assert table.parameters == n * 20 + 10
    assert sum(row.parameters for row in table.rows) == table.parameters
    assert table.flops == n * (2 * 4 * 4 + 4) + 2 * 4 * 2 + 2


@pytest.mark.parametrize("n", [1, 3])
def test_a_repeated_layer_counts_all_its_copies_when_it_is_unrolled(n):
    """A convolution is unrolled on a CPU; its row is one all the same."""
    layer = fnn.repeat(fnn.conv(4, 3, padding=1), n)
    table = fnn.summary(layer, jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32))
    assert [row.path for row in table.rows] == ["layer"]
    assert sum(row.parameters for row in table.rows) == table.parameters == n * (3 * 3 * 4 * 4 + 4)
    assert table.flops == n * (2 * taps(8, 3) ** 2 * 4 * 4 + 4 * 64)


def test_flops_grow_with_the_batch_and_parameters_do_not():
    model = fnn.serial(fnn.conv(4, 3), fnn.flatten, fnn.dense(2))
    one, eight = (fnn.summary(model, jnp.zeros((n, 6, 6, 1))) for n in (1, 8))
    assert eight.flops == 8 * one.flops > 0
    assert eight.parameters == one.parameters


def test_activations_are_the_bytes_of_every_output():
    model = fnn.serial(fnn.conv(4, 3), fnn.relu, fnn.repeat(fnn.conv(4, 3, padding=1), 3), fnn.flatten)
    for dtype, size in ((jnp.float32, 4), (jnp.bfloat16, 2)):
        table = fnn.summary(model, jax.ShapeDtypeStruct((5, 6, 6, 4), dtype))
        output = 5 * 6 * 6 * 4 * size
        assert [row.activations for row in table.rows] == [output, output, 3 * output, output]
        assert table.activations == 6 * output


@pytest.mark.parametrize("other", [{"padding": ((0, 2), (0, 2))}, {"dilation": 2, "padding": 2}])
def test_layers_that_differ_in_an_argument_alone_are_counted_each_for_itself(other):
    """Same kind, same shapes, same parameters: but not as many cells of a window lie inside of the input."""
    x = jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32)
    one, two = fnn.conv(4, 3, padding=1), fnn.conv(4, 3, **other)
    table = fnn.summary(fnn.serial(one, two, one, two), x)
    each = [fnn.summary(layer, x).flops for layer in (one, two, one, two)]
    assert [row.flops for row in table.rows] == each
    assert each[0] != each[1]


def test_equal_layers_are_counted_once(monkeypatch):
    counted = []
    count_all = flops_module._all
    monkeypatch.setattr(flops_module, "_all", lambda program: counted.append(program) or count_all(program))
    table = fnn.summary(fnn.serial(*[fnn.dense(4), fnn.relu] * 5), jnp.ones((1, 4)))
    assert [row.flops for row in table.rows] == [2 * 4 * 4 + 4, 4] * 5
    assert len(counted) == 2


BLOCK = fnn.residual(fnn.serial(fnn.conv(8, 3), fnn.batch_norm(), fnn.relu))
POOLED = 2 * (28 * 28 - 14 * 14) * 32 + 2 * (14 * 14 - 7 * 7) * 64  # values that max pooling leaves out


def whole(model, x):
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    return flops_module.flops(lambda p, s, x: model.apply(p, s, x)[0], params, state, x)


@pytest.mark.parametrize(
    ("model", "shape", "more"),
    [
        (fnn.serial(fnn.dense(100), fnn.relu, fnn.dense(10)), (2, 784), 0),
        (fnn.serial(BLOCK, BLOCK, BLOCK), (1, 9, 9, 8), 3 * 9 * 9 * 8),  # the sums of the blocks
        (fnn.lenet(), (2, 28, 28, 1), -2 * POOLED),  # biases and ReLUs, behind the max pooling
    ],
    ids=["mlp", "residual", "lenet"],
)
def test_the_rows_add_up_to_the_whole_model_but_for_what_is_known(model, shape, more):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert whole(model, x) == fnn.summary(model, x).flops + more


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet18", "mobilenet_v2", "convnext_tiny", "mixer_s16"])
def test_the_rows_of_published_networks_add_up_to_the_whole(name):
    x = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    model = build_model(name)
    assert fnn.summary(model, x).flops == pytest.approx(whole(model, x), rel=0.0015)


def test_nothing_is_computed():
    def explode(x):
        assert isinstance(x, jax.core.Tracer)
        return x

    assert fnn.summary(fnn.serial(fnn.fn(explode), fnn.dense(2)), jnp.ones((1, 3))).parameters == 8


def test_a_model_that_does_not_take_the_input_says_which_layer():
    with pytest.raises(fnn.LayerError, match=r"conv1: expected an input of rank 4"):
        fnn.summary(fnn.serial(fnn.relu, fnn.conv(4, 3)), jnp.ones((1, 3)))


def test_the_table():
    model = fnn.serial(fnn.conv(32, 5, padding="VALID", bias=False), fnn.flatten, head=fnn.dense(10))
    assert str(fnn.summary(model, jnp.zeros((1, 32, 32, 3)))) == "\n".join(
        [
            "path      kind     output            parameters  MFLOP  activations",
            "───────────────────────────────────────────────────────────────────",
            "conv1     conv     1 × 28 × 28 × 32       2,400  3.763       98 KiB",
            "flatten1  flatten  1 × 25088                  0  0.000       98 KiB",
            "head      dense    1 × 10               250,890  0.502         40 B",
            "───────────────────────────────────────────────────────────────────",
            "total                                   253,290  4.265      196 KiB",
        ]
    )
