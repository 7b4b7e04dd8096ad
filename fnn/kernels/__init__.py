"""What the hardware needs: convolutions, pooling and bfloat16 products, chosen by platform."""

from fnn.kernels.choice import CHOICES, Status, requested, status, use

__all__ = ["CHOICES", "Status", "requested", "status", "use"]
