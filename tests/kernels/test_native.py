"""The native part: refused input is an error and never a crash; forks, threads, exports."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import kernels
from fnn.kernels import Spec
from fnn.kernels.native import loader

pytestmark = pytest.mark.skipif(not loader.available(), reason=loader.reason())

SPEC = Spec((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(4, 6, 6, 3)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 3, 5)), jnp.float32)


def attributes(**changes):
    numbers = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]} | changes
    groups, pieces = numbers.pop("groups", 1), numbers.pop("pieces", 2)
    return {k: np.array(v, np.int64) for k, v in numbers.items()} | {
        "groups": np.int64(groups),
        "pieces": np.int64(pieces),
    }


def call(x, kernel, out, **changes):
    return jax.ffi.ffi_call("fnn_conv_forward_v1", out)(x, kernel, **attributes(**changes))


@pytest.mark.parametrize(
    ("x", "kernel", "out", "changes"),
    [
        (X.astype(jnp.float16), KERNEL, ((4, 6, 6, 5), jnp.float16), {}),
        (X, KERNEL.astype(jnp.bfloat16), ((4, 6, 6, 5), jnp.float32), {}),
        (X, KERNEL, ((4, 7, 6, 5), jnp.float32), {}),
        (X, KERNEL, ((4, 6, 6, 4), jnp.float32), {}),
        (X[..., 0], KERNEL, ((4, 6, 6, 5), jnp.float32), {}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"stride": [0, 1]}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"stride": [1]}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"before": [-1, 1]}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"groups": 0}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"groups": 3}),
        (X, KERNEL, ((4, 6, 6, 5), jnp.float32), {"pieces": 0}),
    ],
)
def test_what_does_not_fit_is_an_error(x, kernel, out, changes):
    with pytest.raises((ValueError, RuntimeError), match=r"fnn\.kernels"):
        jax.block_until_ready(
            jax.jit(lambda x, k: call(x, k, jax.ShapeDtypeStruct(*out), **changes))(x, kernel)
        )


def test_pooling_refuses_what_does_not_fit():
    numbers = {name: np.array([2, 2], np.int64) for name in ("window", "stride", "before")}
    y = jax.ShapeDtypeStruct((4, 9, 9, 3), jnp.float32)
    with pytest.raises((ValueError, RuntimeError), match=r"fnn\.kernels"):
        jax.block_until_ready(jax.ffi.ffi_call("fnn_pool_pick_v1", y)(X, X, **numbers))


@pytest.mark.parametrize(
    ("keys", "first", "made", "words"),
    [
        (np.zeros((2, 3), np.uint32), np.zeros(2, np.uint32), ((2, 4), jnp.uint32), 1),
        (np.zeros((3, 2), np.uint32), np.zeros(3, np.uint32), ((3, 3, 3), jnp.uint32), 2),
        (np.zeros((3, 2), np.uint32), np.zeros(2, np.uint32), ((3, 4), jnp.uint32), 1),
        (np.zeros(2, np.int32), np.zeros((), np.uint32), ((4,), jnp.uint32), 1),
        (np.zeros(2, np.uint32), np.zeros((), np.uint32), ((4,), jnp.float32), 1),
        (np.zeros(2, np.uint32), np.zeros((), np.uint32), ((4, 3), jnp.uint32), 3),
    ],
)
def test_random_numbers_refuse_what_does_not_fit(keys, first, made, words):
    draw = jax.ffi.ffi_call("fnn_threefry_v1", jax.ShapeDtypeStruct(*made))
    with pytest.raises((ValueError, RuntimeError), match=r"fnn\.kernels"):
        jax.block_until_ready(draw(keys, first, words=np.int64(words)))


@pytest.mark.parametrize("shape", [(0, 6, 6, 3), (2, 6, 6, 3)])
def test_empty_arrays_take_xlas(shape):
    kernel = KERNEL if shape[0] == 0 else KERNEL[..., :0]
    y = jax.jit(lambda x, k: kernels.conv(x, k, SPEC))(jnp.zeros(shape), kernel)
    assert y.shape == (shape[0], 6, 6, kernel.shape[-1])
    assert jax.grad(lambda k: kernels.conv(jnp.zeros(shape), k, SPEC).sum())(kernel).shape == kernel.shape


def test_not_a_number_and_infinity_are_handed_on():
    y = kernels.conv(X.at[0, 0, 0, 0].set(jnp.nan).at[1, 5, 5].set(jnp.inf), KERNEL, SPEC)
    assert np.isnan(y[0, 0, 0]).all() and not np.isfinite(y[1, 5, 5]).any() and np.isfinite(y[2:]).all()


def test_transposed_and_sliced_inputs():
    wide = jnp.asarray(RNG.normal(size=(6, 8, 12, 3)), jnp.float32)
    view = lambda a: a.transpose(1, 0, 2, 3)[::2, :, ::2]  # noqa: E731
    with kernels.use("xla"):
        wanted = jax.jit(lambda a: kernels.conv(view(a), KERNEL, SPEC))(wide)
    np.testing.assert_allclose(
        jax.jit(lambda a: kernels.conv(view(a), KERNEL, SPEC))(wide), wanted, atol=1e-4
    )
    noncontiguous = np.asarray(wide).transpose(1, 0, 2, 3)[::2, :, ::2]
    np.testing.assert_allclose(kernels.conv(noncontiguous, KERNEL, SPEC), wanted, atol=1e-4)


def test_the_pieces_decide_the_bits_and_the_threads_do_not():
    f = lambda k: jax.grad(lambda k: jnp.sin(kernels.conv(X, k, SPEC)).sum())(k)  # noqa: E731
    with kernels.use(threads=2):
        first = jax.jit(f)(KERNEL)
        for _ in range(20):
            np.testing.assert_array_equal(jax.jit(f)(KERNEL), first)


def test_many_threads_of_python_at_once():
    f = jax.jit(jax.value_and_grad(lambda k, s: jnp.sin(kernels.conv(X * s, k, SPEC)).sum()))
    wanted = [f(KERNEL, s)[1] for s in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(lambda s: f(KERNEL, s)[1], range(8)))
            for a, b in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(a, b)


def _in_child(queue):
    queue.put(os.getpid())


@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning", "ignore:.*fork.*:DeprecationWarning")
def test_a_fork_after_use_lives():
    jax.block_until_ready(kernels.conv(X, KERNEL, SPEC))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == child.pid
    child.join(30)
    assert child.exitcode == 0
    jax.block_until_ready(kernels.conv(X, KERNEL, SPEC))


def test_an_exported_program_holds_nothing_native():
    exported = jax.export.export(jax.jit(lambda x: kernels.conv(x, KERNEL, SPEC)))(X)
    assert "fnn_conv" not in exported.mlir_module()
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_allclose(again.call(X), kernels.conv(X, KERNEL, SPEC), atol=1e-4)


def test_an_exported_program_of_any_batch():
    (n,) = jax.export.symbolic_shape("n")
    exported = jax.export.export(jax.jit(lambda x: fnn.relu.apply({}, {}, kernels.conv(x, KERNEL, SPEC))[0]))
    program = exported(jax.ShapeDtypeStruct((n, 6, 6, 3), jnp.float32))
    assert program.call(X).shape == (4, 6, 6, 5)


def test_what_is_not_native_is_on_record():
    with jax.enable_x64(True):
        kernels.conv(X[:1].astype(jnp.float64), KERNEL.astype(jnp.float64), SPEC)
    assert any(
        "float64" in case and "is none of float32, bfloat16" in why
        for case, why in kernels.fallbacks().items()
    )


def test_torch_in_the_same_process():
    """Each has an OpenMP of its own and its own oneDNN: neither disturbs the other, in either order."""
    torch = pytest.importorskip("torch")
    x, k = (
        torch.tensor(np.asarray(X)).permute(0, 3, 1, 2),
        torch.tensor(np.asarray(KERNEL)).permute(3, 2, 0, 1),
    )
    threads = torch.get_num_threads()
    for _ in range(2):
        ours = np.asarray(kernels.conv(X, KERNEL, SPEC))
        theirs = torch.nn.functional.conv2d(x, k, padding=1).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert torch.get_num_threads() == threads


def test_a_process_without_the_native_part_says_why(tmp_path):
    script = "import fnn; s = fnn.kernels.status(); print(s.active, '|', s.reason)"
    environment = {**os.environ, "FNN_KERNELS": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "jax | asked for"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_kernel_known_at_tracing_is_packed_once(dtype, groups):
    spec = Spec((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 3 // groups, 6)), jnp.float32)
    x = X[:1].astype(dtype)
    known = jax.jit(lambda x: kernels.conv(x, kernel, spec))
    given = jax.jit(lambda x, kernel: kernels.conv(x, kernel, spec))
    assert "fnn_conv_packed" in known.lower(x).as_text()
    np.testing.assert_array_equal(np.float32(known(x)), np.float32(given(x, kernel)))


def test_a_packed_kernel_under_transformations():
    known = lambda x: kernels.conv(x, KERNEL, SPEC)  # noqa: E731
    given = lambda x: kernels.conv(x, jax.lax.optimization_barrier(KERNEL), SPEC)  # noqa: E731
    x, dx = X[:1], X[1:2]
    for how in (
        lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (dx,)))(x),
        lambda f: jax.jit(jax.grad(lambda x: jnp.sin(f(x)).sum()))(x),
        lambda f: jax.jit(jax.vmap(f))(X[:, None]),
        lambda f: jax.jit(jax.vmap(jax.grad(lambda x: jnp.sin(f(x)).sum())))(X[:, None]),
        lambda f: jax.lax.map(f, X[:, None]),
    ):
        for a, b in zip(jax.tree.leaves(how(known)), jax.tree.leaves(how(given)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    exported = jax.export.export(jax.jit(known))(x)
    assert "fnn_conv" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(x), known(x), atol=1e-5)
