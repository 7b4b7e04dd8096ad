"""What the hardware needs: convolutions, pooling, random bits, bfloat16 products, chosen by platform."""

from fnn.kernels.channels import add_channels, moments, spread
from fnn.kernels.choice import CHOICES, Choice, KernelError, plain, processors, requested, use
from fnn.kernels.convolution import conv, conv_input, product
from fnn.kernels.memory import kept as freed_memory
from fnn.kernels.native.build import BuildError
from fnn.kernels.pooling import Windows, max_pool
from fnn.kernels.spec import Spec, acc
from fnn.kernels.status import Status, build, fallbacks, fast_bfloat16, status
from fnn.kernels.threefry import quick_key

__all__ = [
    "CHOICES",
    "BuildError",
    "Choice",
    "KernelError",
    "Spec",
    "Status",
    "Windows",
    "acc",
    "add_channels",
    "build",
    "conv",
    "conv_input",
    "fallbacks",
    "fast_bfloat16",
    "freed_memory",
    "max_pool",
    "moments",
    "plain",
    "processors",
    "product",
    "quick_key",
    "requested",
    "spread",
    "status",
    "use",
]
