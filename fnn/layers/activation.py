"""Activations: JAX's own functions, lifted. They are stable for large inputs."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from fnn.kernels import acc
from fnn.layer import Key, Layer, LayerError, Params, Shaped, leaf, stateless
from fnn.layers.affine import along_channels
from fnn.layers.checks import need_channels, need_floating, need_rank
from fnn.registry import register


def _lift(kind: str, function: Callable[[Array], Array]) -> Layer:
    return stateless(kind, lambda params, x: function(x))


@jax.custom_jvp
def _relu(x: Array) -> Array:
    return jnp.maximum(x, jnp.zeros((), x.dtype))


@_relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """By its output: what came before need not be kept for the gradient, which saves a pass over memory."""
    y = _relu(*primals)
    return y, jnp.where(y > 0, tangents[0], jnp.zeros_like(tangents[0]))


relu = register(stateless("relu", None, tail=lambda params, x: _relu(x)))
"""max(x, 0); its derivative is the step u(x), with u(0) = 0."""
relu6 = register(stateless("relu6", None, tail=lambda params, x: jax.nn.relu6(x)))
"""min(max(x, 0), 6)."""
sigmoid = register(_lift("sigmoid", jax.nn.sigmoid))
"""σ(x) = 1 / (1 + exp(−x)); its derivative is σ(1 − σ)."""
tanh = register(_lift("tanh", jnp.tanh))
"""tanh(x); its derivative is 1 − tanh²."""
silu = register(_lift("silu", jax.nn.silu))
"""x σ(x), also called swish."""
softplus = register(_lift("softplus", jax.nn.softplus))
"""log(1 + exp(x)), the smooth ReLU."""
softsign = register(_lift("softsign", jax.nn.soft_sign))
"""x / (1 + |x|)."""
selu = register(_lift("selu", jax.nn.selu))
"""Scaled ELU; keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515)."""
log_sigmoid = register(_lift("log_sigmoid", jax.nn.log_sigmoid))
"""log σ(x), without overflow."""
mish = register(_lift("mish", jax.nn.mish))
"""x tanh(softplus(x)) (Misra 2019, arXiv:1908.08681)."""
hard_tanh = register(_lift("hard_tanh", jax.nn.hard_tanh))
"""x, cut off at −1 and 1."""
hard_sigmoid = register(_lift("hard_sigmoid", jax.nn.hard_sigmoid))
"""min(max(x + 3, 0), 6) / 6."""
hard_silu = register(_lift("hard_silu", jax.nn.hard_silu))
"""x times hard_sigmoid(x), also called hard swish."""


@register
def leaky_relu(negative_slope: float = 0.01) -> Layer:
    """x where positive, ``negative_slope`` times x elsewhere.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.leaky_relu(0.1).apply({}, {}, jnp.array([-1.0, 1.0]))[0])
        [-0.1  1. ]
    """
    return _lift("leaky_relu", lambda x: jax.nn.leaky_relu(x, negative_slope))


@register
def prelu(start: float = 0.25) -> Layer:
    """x where positive, a learned slope times x elsewhere, one for each channel.

    The parameter is ``slope`` ``(channels,)``.

    Args:
        start: What all slopes start from.

    Raises:
        LayerError: The input is of integers or other channels.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.array([[-1.0, 1.0]])
        >>> params, _ = fnn.prelu().init(jax.random.key(0), x)
        >>> print(fnn.prelu().apply(params, {}, x)[0])
        [[-0.25  1.  ]]

    Source: He et al. 2015, arXiv:1502.01852.
    """

    def init(key: Key, x: Shaped) -> Params:
        need_rank(x, 2)
        need_floating(x)
        return {"slope": jnp.full((x.shape[-1],), start, jnp.float32)}

    def forward(params: Params, x: Float[Array, "batch *space c"]) -> Float[Array, "batch *space c"]:
        need_rank(x, 2)
        need_floating(x)
        slope = leaf(params, "slope")
        need_channels(x, slope.shape[0])
        wide = x.astype(acc(x.dtype))
        return jnp.where(x > 0, wide, along_channels(slope, x.ndim).astype(wide.dtype) * wide).astype(x.dtype)

    return stateless("prelu", forward, init)


@register
def elu(alpha: float = 1.0) -> Layer:
    """x where positive, alpha (exp(x) − 1) elsewhere (Clevert et al. 2015, arXiv:1511.07289).

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.elu().apply({}, {}, jnp.array([0.0, 1.0]))[0])
        [0. 1.]
    """
    return _lift("elu", lambda x: jax.nn.elu(x, alpha))


@register
def celu(alpha: float = 1.0) -> Layer:
    """x where positive, alpha (exp(x / alpha) − 1) elsewhere (Barron 2017, arXiv:1704.07483).

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.celu(2.0).apply({}, {}, jnp.array([0.0, 1.0]))[0])
        [0. 1.]
    """
    return _lift("celu", lambda x: jax.nn.celu(x, alpha))


@register
def gelu(approximate: bool = True) -> Layer:
    """x Φ(x), by the tanh approximation or exactly (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.gelu(approximate=False).apply({}, {}, jnp.array([1.0]))[0])
        [0.8413447]
    """
    return _lift("gelu", lambda x: jax.nn.gelu(x, approximate))


@register
def softmax(axis: int = -1) -> Layer:
    """exp(x) over its sum along ``axis``, computed in float32 or wider. Losses take logits, without it.

    Raises:
        LayerError: The input has no such axis.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.softmax().apply({}, {}, jnp.array([[0.0, 1000.0]]))[0])
        [[0. 1.]]
    """
    return _lift("softmax", lambda x: jax.nn.softmax(_wide(x, axis), axis).astype(x.dtype))


@register
def log_softmax(axis: int = -1) -> Layer:
    """The logarithm of `softmax`, computed in float32 or wider.

    Raises:
        LayerError: As `softmax`.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.log_softmax().apply({}, {}, jnp.array([[0.0, 0.0]]))[0])
        [[-0.6931472 -0.6931472]]
    """
    return _lift("log_softmax", lambda x: jax.nn.log_softmax(_wide(x, axis), axis).astype(x.dtype))


def _wide(x: Array, axis: int) -> Array:
    """In float32 or wider, if there is such an axis."""
    if not -x.ndim <= axis < x.ndim:
        raise LayerError(f"expected an input with an axis {axis}, got {x.shape}")
    wide: Array = x.astype(acc(x.dtype))
    return wide
