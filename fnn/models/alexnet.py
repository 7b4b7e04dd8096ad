"""AlexNet: as it was described in 2012, and in the one-tower form of 2014 that torchvision has."""

from __future__ import annotations

from dataclasses import replace

from fnn.combine import serial
from fnn.data import Preprocessing
from fnn.layer import Layer
from fnn.layers import (
    INITIALIZERS,
    adaptive_avg_pool,
    conv,
    dense,
    dropout,
    flatten,
    local_response_norm,
    max_pool,
    relu,
)
from fnn.layers.padding import Padding
from fnn.models.architecture import IMAGENET, Architecture, renamed
from fnn.models.blocks import scaled
from fnn.models.exchange import Naming
from fnn.registry import register


@register
def alexnet(classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5) -> Layer:
    """AlexNet as one tower of convolutions, without normalisation: 61,100,840 parameters.

    The input is ``(batch, 224, 224, 3)``, or of another size from 63 × 63 on: what the convolutions give is
    averaged to 6 × 6. Kernels are drawn uniformly in ±1 / √fan-in, PyTorch's own start; biases are 0.

    Args:
        classes: The number of outputs.
        width: What the channels and the hidden dense layers are multiplied by.
        dropout_rate: The share of values dropped before each of the hidden dense layers in training.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 224, 224, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.alexnet().init(jax.random.key(0), x)[0]))
        61100840

    Source: Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks,
    arXiv:1404.5997.
    """
    c1, c2, c3, c4, c5, hidden = (scaled("alexnet", n, width) for n in (64, 192, 384, 256, 256, 4096))
    uniform = INITIALIZERS["variance_scaling"](1 / 3, "fan_in", "uniform")
    features = serial(
        conv1=conv(c1, 11, stride=4, padding=2, kernel_init=uniform),
        relu1=relu,
        pool1=max_pool(3, 2),
        conv2=conv(c2, 5, kernel_init=uniform),
        relu2=relu,
        pool2=max_pool(3, 2),
        conv3=conv(c3, 3, kernel_init=uniform),
        relu3=relu,
        conv4=conv(c4, 3, kernel_init=uniform),
        relu4=relu,
        conv5=conv(c5, 3, kernel_init=uniform),
        relu5=relu,
        pool5=max_pool(3, 2),
    )
    classifier = serial(
        drop6=dropout(dropout_rate),
        fc6=dense(hidden, kernel_init=uniform),
        relu6=relu,
        drop7=dropout(dropout_rate),
        fc7=dense(hidden, kernel_init=uniform),
        relu7=relu,
        fc8=dense(classes, kernel_init=uniform),
    )
    whole = serial(features=features, pool=adaptive_avg_pool(6), flatten=flatten, classifier=classifier)
    return replace(whole, kind="alexnet")


@register
def alexnet_2012(
    classes: int = 1000, *, width: float = 1.0, dropout_rate: float = 0.5, padding: Padding = "VALID"
) -> Layer:
    """AlexNet of 2012: two groups of channels, local response normalisation, 60,965,224 parameters.

    The input is ``(batch, 227, 227, 3)``, with the mean of each channel subtracted. The groups are the halves
    that lay on two GPUs; the second, fourth and fifth convolution see their own half alone. Pooling overlaps.
    Kernels are drawn with a standard deviation of 0.01; biases start from 1 where the paper wants the ReLUs
    to get positive inputs, and from 0 elsewhere.

    Args:
        classes: The number of outputs.
        width: What the channels and the hidden dense layers are multiplied by.
        dropout_rate: The share of the hidden dense layers' values dropped in training.
        padding: That of the first convolution. The paper speaks of 224 × 224 inputs, to which the sizes that
            it gives fit with ``((1, 2), (1, 2))``.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> x = jnp.ones((1, 227, 227, 3))
        >>> fnn.count(jax.eval_shape(lambda: fnn.alexnet_2012().init(jax.random.key(0), x)[0]))
        60965224

    Source: Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural
    networks.
    """
    c1, c2, c3, c4, c5, hidden = (scaled("alexnet_2012", n, width, 2) for n in (96, 256, 384, 384, 256, 4096))
    normal, one = INITIALIZERS["normal"](0.01), "ones"
    # the paper's alpha of 1e-4 is not divided by the size of the neighbourhood
    respond = local_response_norm(5, alpha=5e-4, beta=0.75, k=2.0)
    features = serial(
        conv1=conv(c1, 11, stride=4, padding=padding, kernel_init=normal),
        relu1=relu,
        norm1=respond,
        pool1=max_pool(3, 2),
        conv2=conv(c2, 5, groups=2, kernel_init=normal, bias_init=one),
        relu2=relu,
        norm2=respond,
        pool2=max_pool(3, 2),
        conv3=conv(c3, 3, kernel_init=normal),
        relu3=relu,
        conv4=conv(c4, 3, groups=2, kernel_init=normal, bias_init=one),
        relu4=relu,
        conv5=conv(c5, 3, groups=2, kernel_init=normal, bias_init=one),
        relu5=relu,
        pool5=max_pool(3, 2),
    )
    classifier = serial(
        fc6=dense(hidden, kernel_init=normal, bias_init=one),
        relu6=relu,
        drop6=dropout(dropout_rate),
        fc7=dense(hidden, kernel_init=normal, bias_init=one),
        relu7=relu,
        drop7=dropout(dropout_rate),
        fc8=dense(classes, kernel_init=normal),
    )
    return replace(serial(features=features, flatten=flatten, classifier=classifier), kind="alexnet_2012")


_TORCHVISION = Naming(
    renamed(
        {
            **{"conv1": "0", "conv2": "3", "conv3": "6", "conv4": "8", "conv5": "10"},
            **{"fc6": "1", "fc7": "4", "fc8": "6"},
        }
    ),
    flattened={"classifier/fc6": (6, 6, -1)},
)

ARCHITECTURES = {
    "alexnet": Architecture(IMAGENET, {"torchvision": _TORCHVISION}),
    "alexnet_2012": Architecture(
        Preprocessing((227, 227), short_side=256, mean=tuple(255 * mean for mean in IMAGENET.mean))
    ),
}
