"""Convolution over 1, 2 or 3 spatial axes, channels last, kernels (space..., in, out)."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from fnn import kernels
from fnn.layer import Key, Layer, LayerError, Params, Shaped, leaf, stateless
from fnn.layers.affine import add_bias
from fnn.layers.checks import need_channels, need_floating, per_axis, positive, sizes, spatial_axes
from fnn.layers.initializers import Initializer, initializer, make
from fnn.layers.padding import Padding, check_padding, explicit, pairs
from fnn.registry import register

Size = int | Sequence[int]
"""One number for all spatial axes, or one for each."""

Sides = Sequence[tuple[int, int]]
"""Cells before and after each spatial axis."""


@register
def conv(
    features: int,
    kernel: Size,
    *,
    stride: Size = 1,
    padding: Padding = "SAME",
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """Convolution (cross-correlation, as in all of deep learning) with weights shared over space.

    ``x`` is ``(batch, *space, in)`` with 1, 2 or 3 spatial axes, ``y`` is ``(batch, *space', features)``;
    parameters are ``kernel`` ``(*kernel, in / groups, features)`` and ``bias`` ``(features,)``.

    Args:
        features: The number of output channels.
        kernel: The window, one number for all spatial axes or one for each.
        stride: Steps between windows.
        padding: ``"SAME"`` (output = ceil(input / stride)), ``"VALID"`` (none), a number of cells on every
            side, or a pair (before, after) for each spatial axis.
        dilation: Steps between the cells of a window.
        groups: Channels are split into so many groups that do not see each other.
        bias: Whether a bias is added.
        kernel_init: An initialiser or the name of one; ``he_normal`` keeps the second moment through ReLU.
        bias_init: Likewise for the bias.

    Raises:
        LayerError: The input is of integers or another rank, channels do not fit, or no window fits.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> layer = fnn.conv(32, 3, stride=2)
        >>> params, _ = layer.init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
        >>> params["kernel"].shape, layer.apply(params, {}, jnp.ones((1, 28, 28, 1)))[0].shape
        ((3, 3, 1, 32), (1, 14, 14, 32))

    Source: LeCun et al., Backpropagation applied to handwritten zip code recognition, 1989.
    """
    positive("conv", features=features, groups=groups)
    sizes("conv", kernel=kernel, stride=stride, dilation=dilation)
    check_padding("conv", padding)
    if features % groups:
        raise ValueError(f"conv: features must be a multiple of groups, got {features} and {groups}")
    kernel_init = initializer(kernel_init)
    make_bias = initializer(bias_init) if bias else None

    def init(key: Key, x: Shaped) -> Params:
        window = _window("conv", x, kernel)
        if x.shape[-1] % groups:
            raise LayerError(f"expected channels in a multiple of {groups} groups, got {x.shape}")
        return make(key, (*window, x.shape[-1] // groups, features), kernel_init, make_bias)

    def forward(params: Params, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        _window("conv", x, kernel)
        weights = leaf(params, "kernel")
        need_channels(x, weights.shape[-2] * groups)
        return convolve(x, weights, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return stateless("conv", forward, init, tail=add_bias if bias else None)


@register
def depthwise_conv(
    kernel: Size,
    *,
    multiplier: int = 1,
    stride: Size = 1,
    padding: Padding = "SAME",
    dilation: Size = 1,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """Convolution of each channel by itself: `conv` with as many groups as channels.

    ``y`` has ``in * multiplier`` channels, those of one input channel side by side; parameters are
    ``kernel`` ``(*kernel, 1, in * multiplier)`` and ``bias``.

    Args:
        kernel: The window.
        multiplier: Output channels for each input channel.
        stride, padding, dilation, bias, kernel_init, bias_init: As in `conv`.

    Raises:
        LayerError: As in `conv`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> params, _ = fnn.depthwise_conv(3).init(jax.random.key(0), jnp.ones((1, 8, 8, 16)))
        >>> params["kernel"].shape
        (3, 3, 1, 16)

    Source: Howard et al., MobileNets, 2017, arXiv:1704.04861.
    """
    positive("depthwise_conv", multiplier=multiplier)
    sizes("depthwise_conv", kernel=kernel, stride=stride, dilation=dilation)
    check_padding("depthwise_conv", padding)
    kernel_init = initializer(kernel_init)
    make_bias = initializer(bias_init) if bias else None

    def init(key: Key, x: Shaped) -> Params:
        window = _window("depthwise_conv", x, kernel)
        return make(key, (*window, 1, x.shape[-1] * multiplier), kernel_init, make_bias)

    def forward(params: Params, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        _window("depthwise_conv", x, kernel)
        weights = leaf(params, "kernel")
        need_channels(x, weights.shape[-1] // multiplier)
        return convolve(x, weights, stride=stride, padding=padding, dilation=dilation, groups=x.shape[-1])

    return stateless("depthwise_conv", forward, init, tail=add_bias if bias else None)


@register
def conv_transpose(
    features: int,
    kernel: Size,
    *,
    stride: Size = 1,
    padding: Padding = "SAME",
    dilation: Size = 1,
    bias: bool = True,
    kernel_init: str | Initializer = "he_normal",
    bias_init: str | Initializer = "zeros",
) -> Layer:
    """The transpose of a convolution: every input cell paints the kernel, ``stride`` cells apart.

    What `conv` with the same kernel, stride and padding does to the gradient of its input. Before
    padding is cut off, an axis is ``(in - 1) * stride + (kernel - 1) * dilation + 1`` long; ``"VALID"`` cuts
    nothing, ``"SAME"`` cuts to ``in * stride``, a number or pairs cut so many cells from the sides, as in
    PyTorch.

    Args:
        features: The number of output channels.
        kernel, stride, dilation, bias, kernel_init, bias_init: As in `conv`.
        padding: What is cut off.

    Raises:
        LayerError: As in `conv`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> layer = fnn.conv_transpose(8, 4, stride=2)
        >>> params, _ = layer.init(jax.random.key(0), jnp.ones((1, 7, 7, 16)))
        >>> layer.apply(params, {}, jnp.ones((1, 7, 7, 16)))[0].shape
        (1, 14, 14, 8)

    Source: Zeiler et al., Deconvolutional networks, CVPR 2010.
    """
    positive("conv_transpose", features=features)
    sizes("conv_transpose", kernel=kernel, stride=stride, dilation=dilation)
    check_padding("conv_transpose", padding)
    kernel_init = initializer(kernel_init)
    make_bias = initializer(bias_init) if bias else None

    def init(key: Key, x: Shaped) -> Params:
        window = _window("conv_transpose", x, kernel)
        return make(key, (*window, x.shape[-1], features), kernel_init, make_bias)

    def forward(params: Params, x: Float[Array, "batch *space in"]) -> Float[Array, "batch *space out"]:
        window = _window("conv_transpose", x, kernel)
        weights = leaf(params, "kernel")
        need_channels(x, weights.shape[-2])
        axes = len(window)
        steps = per_axis("conv_transpose", "stride", stride, axes)
        rates = per_axis("conv_transpose", "dilation", dilation, axes)
        reach = tuple((k - 1) * d + 1 for k, d in zip(window, rates, strict=True))
        cut = _cut(padding, reach, steps)
        if min(_painted(x, steps, reach, cut)) < 1:
            raise LayerError(
                f"expected an output of one cell or more, got {x.shape} with padding {padding!r}"
            )
        spec = kernels.Spec(_painted(x, steps, reach, cut), window, steps, _not_negative(cut), rates)
        # the kernel of the convolution whose transpose this is sees our outputs and makes our inputs
        return kernels.conv_input(x, jnp.swapaxes(weights, -1, -2), spec)

    return stateless("conv_transpose", forward, init, tail=add_bias if bias else None)


def convolve(
    x: Array, kernel: Array, *, stride: Size, padding: Padding, dilation: Size = 1, groups: int = 1
) -> Array:
    """The convolution of the layers, without a bias; the kernel is cast to the type of ``x``
    and its gradient summed in float32 or wider.

    Raises:
        LayerError: No window fits into the input.
    """
    axes = x.ndim - 2
    steps = per_axis("conv", "stride", stride, axes)
    rates = per_axis("conv", "dilation", dilation, axes)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel.shape[:axes], rates, strict=True))
    sides = pairs(x.shape[1:-1], reach, steps, padding)
    return kernels.conv(
        x, kernel, kernels.Spec(x.shape[1:-1], kernel.shape[:axes], steps, sides, rates, groups)
    )


def _window(kind: str, x: Shaped, kernel: Size) -> tuple[int, ...]:
    axes = spatial_axes(x, kernel)
    need_floating(x)
    return per_axis(kind, "kernel", kernel, axes)


def _painted(x: Array, stride: tuple[int, ...], reach: tuple[int, ...], cut: Sides) -> tuple[int, ...]:
    """Lengths of the spatial axes after painting and cutting."""
    sizes = zip(x.shape[1:-1], stride, reach, cut, strict=True)
    return tuple((n - 1) * s + r - a - b for n, s, r, (a, b) in sizes)


def _not_negative(cut: Sides) -> tuple[tuple[int, int], ...]:
    """A cut below 0 adds cells that no window paints: the space alone says so."""
    return tuple((max(a, 0), max(b, 0)) for a, b in cut)


def _cut(padding: Padding, reach: tuple[int, ...], stride: tuple[int, ...]) -> Sides:
    if not isinstance(padding, str):
        return explicit(len(reach), padding)
    if padding == "VALID":
        return [(0, 0)] * len(reach)
    before = [max(r - s, 0) // 2 for r, s in zip(reach, stride, strict=True)]
    return [(b, r - s - b) for b, r, s in zip(before, reach, stride, strict=True)]
