"""MLP-Mixer: perceptrons over patches and over channels, in turns."""

from __future__ import annotations

from dataclasses import replace

from fnn.combine import residual, serial
from fnn.layer import Layer
from fnn.layers import conv, dense, gelu, global_avg_pool, layer_norm, reshape, transpose
from fnn.layers.checks import few, positive
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import numbered, stage
from fnn.models.exchange import Naming
from fnn.registry import register

_EPSILON = 1e-6


@register
def mlp_mixer(
    depth: int,
    features: int,
    *,
    patch: int = 16,
    classes: int = 1000,
    size: int = 224,
    token_hidden: int | None = None,
    channel_hidden: int | None = None,
    remat: bool = False,
    scan: bool = False,
) -> Layer:
    """A mixer of any size: patches, blocks of two perceptrons, the mean over patches, a dense layer.

    A block's first perceptron sees one channel of all patches, its second all channels of one patch.

    Args:
        depth: How many blocks.
        features: Channels.
        patch: Height and width of a patch.
        classes: The number of outputs.
        size: Height and width of a picture, which must be no other: the first perceptrons depend on it.
        token_hidden: The inner width of the first perceptrons; by default half of ``features``.
        channel_hidden: That of the second ones; by default 4 times ``features``.
        remat, scan: As in `fnn.resnet`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> model = fnn.mlp_mixer(2, 8, patch=4, size=16, classes=3)
        >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 16, 16, 3)))
        >>> params["blocks"]["block1"]["tokens"]["body"]["expand"]["kernel"].shape
        (16, 4)

    Source: Tolstikhin et al. 2021, arXiv:2105.01601.
    """
    positive("mlp_mixer", depth=depth, features=features, patch=patch, size=size)
    few("mlp_mixer", depth=depth)
    if size % patch:
        raise ValueError(f"mlp_mixer: size must be a multiple of patch, got {size} and {patch}")
    tokens = (size // patch) ** 2

    def perceptron(hidden: int, out: int) -> dict[str, Layer]:
        # "lecun_normal" is what the authors' code starts from
        return {
            "expand": dense(hidden, kernel_init="lecun_normal"),
            "gelu": gelu(approximate=False),
            "project": dense(out, kernel_init="lecun_normal"),
        }

    over_tokens = serial(
        norm=layer_norm(_EPSILON),
        turn=transpose(2, 1),
        **perceptron(token_hidden or max(features // 2, 1), tokens),
        back=transpose(2, 1),
    )
    over_channels = serial(norm=layer_norm(_EPSILON), **perceptron(channel_hidden or 4 * features, features))
    block = serial(tokens=residual(over_tokens), channels=residual(over_channels))
    patches = conv(features, patch, stride=patch, padding="VALID", kernel_init="lecun_normal")
    whole = serial(
        stem=serial(conv=patches, patches=reshape(tokens, features)),
        blocks=stage([block] * depth, remat=remat, scan=scan),
        norm=layer_norm(_EPSILON),
        pool=global_avg_pool,
        head=dense(classes, kernel_init="zeros"),
    )
    return replace(whole, kind="mlp_mixer")


@register
def mixer_s16(classes: int = 1000, *, size: int = 224, remat: bool = False, scan: bool = False) -> Layer:
    """Mixer-S/16: 8 blocks, 18.5 M parameters.

    Args:
        classes, size, remat, scan: As in `mlp_mixer`.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601.
    """
    model = mlp_mixer(8, 512, classes=classes, size=size, remat=remat, scan=scan)
    return replace(model, kind="mixer_s16")


@register
def mixer_b16(classes: int = 1000, *, size: int = 224, remat: bool = False, scan: bool = False) -> Layer:
    """Mixer-B/16: 12 blocks, 59.9 M parameters.

    Args:
        classes, size, remat, scan: As in `mlp_mixer`.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601.
    """
    model = mlp_mixer(12, 768, classes=classes, size=size, remat=remat, scan=scan)
    return replace(model, kind="mixer_b16")


@register
def mixer_l16(classes: int = 1000, *, size: int = 224, remat: bool = False, scan: bool = False) -> Layer:
    """Mixer-L/16: 24 blocks, 208.2 M parameters.

    Args:
        classes, size, remat, scan: As in `mlp_mixer`.

    Source: Tolstikhin et al. 2021, arXiv:2105.01601.
    """
    model = mlp_mixer(24, 1024, classes=classes, size=size, remat=remat, scan=scan)
    return replace(model, kind="mixer_l16")


_TIMM = Naming(
    (
        (r"\.block(\d+)\.", numbered),
        *renamed({"stem.conv": "stem.proj", "expand": "fc1", "project": "fc2"}),
        *renamed({"tokens.body.norm": "norm1", "channels.body.norm": "norm2"}),
        *renamed({"tokens.body": "mlp_tokens", "channels.body": "mlp_channels"}),
    )
)

ARCHITECTURES = {
    model.__name__: Architecture(replace(IMAGENET, mean=(0.5,), std=(0.5,)), {"timm": _TIMM})
    for model in (mixer_s16, mixer_b16, mixer_l16)
}
