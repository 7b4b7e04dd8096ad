"""A config's ``optimizer:`` section as an optax gradient transformation.

Every optimiser, gradient transformation and schedule of ``optax`` and ``optax.contrib`` is known by its
own name with its own arguments, read from its signature.
"""

from fnn.optim.build import Optimizer, build
from fnn.optim.wrappers import evaluation_params

__all__ = ["Optimizer", "build", "evaluation_params"]
