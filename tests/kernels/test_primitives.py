"""fnn.kernels.conv against XLA's convolution, in every form and under every transformation.

Forms differ in what is lowered, the three directions; transformations do not know them.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fnn
from fnn import kernels
from fnn.kernels import Spec
from fnn.kernels.native import loader

RNG = np.random.default_rng(0)


def spec(space, window, stride=1, padding=1, dilation=1, groups=1):
    n = len(space)
    sides = padding if isinstance(padding, tuple) else ((padding, padding),) * n
    return Spec(space, window, (stride,) * n, sides, (dilation,) * n, groups)


# spec, batch, channels in and out
CASES = {
    "square": (spec((6, 6), (3, 3)), 2, 4, 6),
    "row": (spec((9,), (3,), padding=((1, 0),)), 3, 2, 4),
    "volume": (spec((4, 5, 3), (2, 3, 1), padding=((0, 1), (1, 1), (0, 0))), 2, 2, 3),
    "strided": (spec((7, 8), (3, 2), stride=2, padding=((1, 1), (0, 1))), 2, 3, 4),
    "dilated": (spec((8, 8), (3, 3), padding=2, dilation=2), 2, 3, 4),
    "grouped": (spec((5, 5), (3, 3), groups=2), 3, 4, 6),
    "depthwise": (spec((6, 5), (3, 3), groups=4), 2, 4, 4),
    "multiplied": (spec((6, 5), (3, 3), groups=4), 2, 4, 8),
    "uneven": (spec((6, 7), (2, 4), padding=((0, 1), (2, 1))), 3, 3, 2),
    "pointwise": (spec((4, 4), (1, 1), padding=0), 2, 8, 4),
    "leftover": (spec((6, 6), (3, 3), stride=4, padding=0), 2, 2, 2),
    "one example": (spec((16, 16), (3, 3)), 1, 32, 64),
    "few made": (spec((6, 5), (5, 3), padding=((2, 2), (1, 1))), 2, 4, 1),
    "few painted": (spec((10, 6), (5, 6), stride=3, padding=((1, 1), (1, 2))), 2, 1, 4),
    "product": (Spec((), (), (), (), ()), 6, 8, 4),
}
KINDS = pytest.mark.parametrize("case", CASES)


def oracle(x, kernel, spec):
    if not spec.axes:
        return x @ kernel.astype(x.dtype)
    space = "DHW"[-spec.axes :]
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        spec.stride,
        spec.padding,
        rhs_dilation=spec.dilation,
        feature_group_count=spec.groups,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )


def arrays(case, *leading):
    """A spec, and arrays with leading axes: x, kernel, and directions for both."""
    spec, batch, inputs, outputs = CASES[case]
    shapes = (batch, *spec.space, inputs), (*spec.window, inputs // spec.groups, outputs)
    x, kernel, dx, dkernel = (jnp.asarray(RNG.normal(size=(*leading, *s)), jnp.float32) for s in shapes * 2)
    return spec, x, kernel, dx, dkernel


def check(got, wanted, tolerance=2e-4):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = max(1.0, float(jnp.abs(b.astype(jnp.float32)).max()))
        np.testing.assert_allclose(np.float32(a) / scale, np.float32(b) / scale, atol=tolerance)


@KINDS
def test_values(case, form):
    spec, x, kernel, *_ = arrays(case)
    check(kernels.conv(x, kernel, spec), oracle(x, kernel, spec))
    check(jax.jit(kernels.conv, static_argnums=2)(x, kernel, spec), oracle(x, kernel, spec))


@KINDS
def test_gradients_forward_and_reverse(case, form):
    spec, x, kernel, dx, dkernel = arrays(case)
    both = [
        jax.jit(jax.grad(lambda x, k, f=f: jnp.sin(f(x, k, spec)).sum(), (0, 1)))(x, kernel)
        for f in (kernels.conv, oracle)
    ]
    check(*both)
    both = [
        jax.jvp(functools.partial(f, spec=spec), (x, kernel), (dx, dkernel)) for f in (kernels.conv, oracle)
    ]
    check(*both)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["strided", "grouped", "row", "product"])
def test_second_and_third_order(case):
    spec, x, kernel, dx, dkernel = arrays(case)

    def curvature(f, how):
        loss = lambda args: jnp.tanh(f(*args, spec)).sum()  # noqa: E731
        gradient = jax.grad(loss)
        along = lambda args: jax.jvp(gradient, (args,), ((dx, dkernel),))[1]  # noqa: E731
        if how == "forward over reverse":
            return jax.jit(along)((x, kernel))
        if how == "reverse over forward":
            return jax.jit(jax.grad(lambda a: jax.jvp(loss, (a,), ((dx, dkernel),))[1]))((x, kernel))
        if how == "reverse over reverse":
            inner = lambda a: sum(jnp.vdot(g, d) for g, d in zip(gradient(a), (dx, dkernel), strict=True))  # noqa: E731
            return jax.jit(jax.grad(inner))((x, kernel))
        return jax.jit(jax.grad(lambda a: sum(jnp.sum(g**2) for g in along(a))))((x, kernel))  # third order

    for how in ("forward over reverse", "reverse over forward", "reverse over reverse", "third"):
        check(curvature(kernels.conv, how), curvature(oracle, how), 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["square", "strided", "row", "grouped", "multiplied", "product"])
@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_vmap(case, mapped):
    spec, x, kernel, *_ = arrays(case, 3)
    move = lambda a, axis: a[0] if axis is None else jnp.moveaxis(a, 0, axis)  # noqa: E731
    x, kernel = move(x, mapped[0]), move(kernel, mapped[1])
    for f in (lambda f: f, lambda f: jax.grad(lambda x, k, s: jnp.sin(f(x, k, s)).sum(), (0, 1))):
        both = [
            jax.jit(jax.vmap(lambda x, k, g=g: f(g)(x, k, spec), mapped))(x, kernel)  # noqa: B023
            for g in (kernels.conv, oracle)
        ]
        check(*both)


@pytest.mark.parametrize("case", ["square", "grouped", "product"])
def test_vmap_of_vmap(case):
    spec, x, kernel, *_ = arrays(case, 2)
    nested = [
        jax.vmap(lambda x: jax.vmap(lambda k: f(x, k, spec))(kernel))(x)  # noqa: B023
        for f in (kernels.conv, oracle)
    ]
    check(*nested)


@pytest.mark.parametrize("case", ["square", "depthwise", "product"])
def test_control_flow(case, form):
    spec, x, kernel, *_ = arrays(case)
    steps = jnp.arange(1, 4, dtype=jnp.float32)

    def scanned(f, kernel):
        body = lambda total, s: (total + f(x * s, kernel, spec).sum(), None)  # noqa: E731
        return lax.scan(jax.checkpoint(body), jnp.float32(0), steps)[0]

    def looped(f, kernel):
        return lax.fori_loop(0, 3, lambda i, total: total + f(x, kernel, spec).sum(), jnp.float32(0))

    def branched(f, kernel):
        return lax.cond(x.sum() > 0, lambda k: f(x, k, spec).sum(), lambda k: 2 * f(x, k, spec).sum(), kernel)

    for flow in (scanned, branched):
        check(*[jax.jit(jax.grad(functools.partial(flow, f)))(kernel) for f in (kernels.conv, oracle)])
    check(*[jax.jit(functools.partial(looped, f))(kernel) for f in (kernels.conv, oracle)])


@KINDS
def test_bfloat16(case, form):
    """Sums and the kernel's gradient are made in float32: as good as float32 on the rounded values."""
    spec, x, kernel, *_ = arrays(case)
    narrow, rounded = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16).astype(jnp.float32)
    y = kernels.conv(narrow, kernel, spec)
    assert y.dtype == jnp.bfloat16
    check(y, oracle(narrow.astype(jnp.float32), rounded, spec).astype(jnp.bfloat16), 0.01)
    loss = lambda k, x, f: f(x, k, spec).astype(jnp.float32).sum()  # noqa: E731
    gradient = jax.grad(loss)(kernel, narrow, kernels.conv)
    check(gradient, jax.grad(loss)(rounded, narrow.astype(jnp.float32), oracle), 1e-4)


@KINDS
def test_float64_takes_xlas(case):
    with jax.enable_x64(True):
        spec, x, kernel, *_ = arrays(case)
        x, kernel = x.astype(jnp.float64), kernel.astype(jnp.float64)
        check(kernels.conv(x, kernel, spec), oracle(x, kernel, spec), 1e-12)


@KINDS
def test_the_transposed_convolution(case, form):
    spec, x, kernel, *_ = arrays(case)
    y = oracle(x, kernel, spec)
    (wanted,) = jax.linear_transpose(lambda x: oracle(x, kernel, spec), x)(y)
    check(kernels.conv_input(y, kernel, spec), wanted)


@pytest.mark.skipif(not loader.available(), reason=loader.reason())
def test_the_bits_do_not_depend_on_the_loop():
    """A step in a loop of one program or of another gives the same bits, where the kernel is native."""
    spec, x, kernel, *_ = arrays("square")
    step = lambda k: k - 0.01 * jax.grad(lambda k: jnp.sin(kernels.conv(x, k, spec)).sum())(k)  # noqa: E731
    looped = jax.jit(lambda k, n: lax.fori_loop(0, n, lambda i, k: step(k), k))
    one = kernel
    for _ in range(5):
        one = looped(one, 1)
    np.testing.assert_array_equal(one, looped(kernel, 5))


@pytest.mark.slow
def test_several_devices():
    """The tests of the class below, in a process that sees two."""
    flags = "--xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "pytest", __file__, "-n0", "-q", "-k", "TestDevices"]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout


@pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices")
class TestDevices:
    """Data parallelism, by jit and by shard_map."""

    mesh = property(lambda self: Mesh(np.array(jax.devices()[:2]), ("data",)))

    @pytest.mark.parametrize("case", ["square", "product"])
    def test_jit(self, case, form):
        spec, x, kernel, *_ = arrays(case)
        spread = jax.device_put(x, NamedSharding(self.mesh, PartitionSpec("data")))
        both = [
            jax.jit(jax.grad(lambda x, k, f=f: jnp.sin(f(x, k, spec)).sum(), (0, 1)))(spread, kernel)
            for f in (kernels.conv, oracle)
        ]
        check(*both)

    @pytest.mark.parametrize("case", ["square", "product"])
    @pytest.mark.parametrize("narrow", [False, True])
    def test_shard_map(self, case, narrow, form):
        spec, x, kernel, *_ = arrays(case)
        x = x.astype(jnp.bfloat16) if narrow else x
        P = PartitionSpec

        @jax.jit
        @functools.partial(jax.shard_map, mesh=self.mesh, in_specs=(P("data"), P()), out_specs=P())
        def gradient(x, kernel):
            loss = lambda k: lax.psum(jnp.sin(kernels.conv(x, k, spec).astype(jnp.float32)).sum(), "data")  # noqa: E731
            return jax.grad(loss)(kernel)

        wanted = jax.grad(lambda k: jnp.sin(kernels.conv(x, k, spec).astype(jnp.float32)).sum())(kernel)
        check(gradient(x, kernel), wanted, 0.02 if narrow else 2e-4)

    def test_a_mesh_of_explicit_axes(self):
        """A batch whose type says how it is spread; JAX's own convolution has no rule for one."""
        model = fnn.serial(fnn.batch_norm(), fnn.relu, fnn.max_pool(2), fnn.flatten, fnn.dense(3))
        x = jnp.asarray(RNG.normal(size=(4, 8, 8, 3)), jnp.float32)
        params, state = model.init(jax.random.key(0), x)
        loss = lambda p, x: jnp.sin(model.apply(p, state, x, train=True)[0]).sum()  # noqa: E731
        wanted = jax.jit(jax.grad(loss))(params, x)
        mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
        with jax.set_mesh(mesh):
            spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
            check(jax.jit(jax.grad(loss))(params, spread), wanted)

    def test_dropout(self):
        """In jit the mask is that of one device; in shard_map it is of the key that each device is given."""
        dropout, key, P = fnn.dropout(0.5), jax.random.key(3), PartitionSpec
        drop = lambda x, key: dropout.apply({}, {}, x, key=key, train=True)[0]  # noqa: E731
        x = jnp.ones((4, 6))
        spread = jax.device_put(x, NamedSharding(self.mesh, P("data")))
        np.testing.assert_array_equal(jax.jit(drop)(spread, key), drop(x, key))

        @jax.jit
        @functools.partial(
            jax.shard_map, mesh=self.mesh, in_specs=P("data"), out_specs=(P("data"), P("data"))
        )
        def both(x):
            return drop(x, jax.random.fold_in(key, lax.axis_index("data"))), drop(x, key)

        own, shared = both(x)
        parts = [drop(x[:2], jax.random.fold_in(key, i)) for i in range(2)]
        np.testing.assert_array_equal(own, jnp.concatenate(parts))
        np.testing.assert_array_equal(shared, jnp.concatenate([drop(x[:2], key)] * 2))
