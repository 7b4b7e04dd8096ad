"""One training step, a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.data import Augmentation, Mixed, Paired
from fnn.kernels import quick_key
from fnn.layer import Key, Layer, Params, State, name_key
from fnn.losses import reduce
from fnn.metrics import Metric
from fnn.optim import evaluation_params
from fnn.trees import from_paths, merge, paths, split

SCALARS = ("loss", "gradient_norm", "update_norm", "parameter_norm")
"""What the log of a step says of it in one number each; where one is not finite, the step has failed."""


class Average(NamedTuple):
    """A moving average that began at 0.

    Attributes:
        total: The running sum, not yet corrected for its start.
        values: How many are in it: a step that is left out adds none.
    """

    total: Any
    values: Array


class TrainState(NamedTuple):
    """All that a step changes.

    Attributes:
        step: Steps done.
        params, state: The model's.
        optimizer: The optimiser's, of the parameters that are trained.
        average: An `Average` of those, or ``{}``.
    """

    step: Array
    params: Params
    state: State
    optimizer: Any
    average: Any


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a step needs to know.

    Attributes:
        model: The layer.
        optimizer: A gradient transformation that takes ``value``, ``grad`` and ``value_fn``.
        loss: ``(outputs, targets) -> losses``, one an example.
        penalty: ``params -> scalar``, added to the loss.
        metrics: Measured on the training batches, by name; where examples are mixed, against the targets
            of their own.
        normalize: ``inputs -> float32 inputs``.
        augment: ``(key, float32 inputs) -> inputs``, in training, before normalising; or it mixes the
            examples of a batch, and with them their losses. Where targets are pictures, too, it is given and
            gives both, `Paired`.
        dtype: The type of the activations.
        reduction: How the losses of a batch become one.
        ema: The decay of an average of the parameters; None: no average.
        skip: Whether a step in which something is not finite changes nothing but the number of the step.
        freeze: Globs over the paths of parameters that are not trained: no step changes them, and no gradient
            by them is computed. The optimiser, its ``value_fn`` and the average never see them. What a layer
            does in training, such as moving its statistics, it does all the same; see `still`.
    """

    model: Layer
    optimizer: optax.GradientTransformationExtraArgs
    loss: Callable[[Array, Array], Array]
    penalty: Callable[[Params], Array]
    metrics: Mapping[str, Metric]
    normalize: Callable[[Array], Array]
    augment: Augmentation | None = None
    dtype: Any = jnp.float32
    reduction: Literal["mean", "sum"] = "mean"
    ema: float | None = None
    skip: bool = False
    freeze: tuple[str, ...] = ()

    def prepare(self, inputs: Array) -> Array:
        """What the model sees of raw inputs."""
        return self.normalize(inputs.astype(jnp.float32)).astype(self.dtype)

    def evaluated(self, train_state: TrainState) -> Params:
        """The parameters that evaluation uses: the average, where there is one, or the optimiser's choice."""
        params, frozen = self.split(train_state.params)
        if self.ema is None:
            params = evaluation_params(train_state.optimizer, params)
        else:
            total, values = train_state.average
            average = optax.tree.bias_correction(total, self.ema, values)
            params = jax.tree.map(lambda a, p: jnp.where(values == 0, p, a), average, params)
        whole: Params = merge(params, frozen)
        return whole

    def split(self, params: Params) -> tuple[Params, Params]:
        """The parameters that are trained, and those that are not."""
        return split(self.freeze, params)


class Batch(NamedTuple):
    """What the objective of a step takes beside the model's params and state.

    Attributes:
        inputs: What the model sees.
        targets: Of each example.
        key: The model's randomness.
        partner, share: Where examples are mixed, with whom, and how much of each is its own: see `Mixed`.
    """

    inputs: Array
    targets: Array
    key: Key
    partner: Array | None = None
    share: Array | None = None


def initial_state(
    recipe: Recipe, key: Key, inputs: Any, given: Mapping[str, Any] | None = None
) -> TrainState:
    """Where training begins.

    Args:
        recipe: What is trained.
        key: Makes the parameters.
        inputs: An array of raw inputs, or its shape and dtype.
        given: Arrays by path (``params/conv1/kernel``, ``state/batch_norm1/mean``) that stand in the place of
            those that the model would begin with.
    """
    x = jax.eval_shape(recipe.prepare, inputs)

    @jax.jit  # one compilation in place of one for each operation
    def start(key: Key, given: dict[str, Array]) -> TrainState:
        params, state = recipe.model.init(quick_key(key), x)
        if given:
            whole = from_paths({**paths({"params": params, "state": state}), **given})
            params, state = whole.get("params", {}), whole.get("state", {})
        trained, _ = recipe.split(params)
        average: Any = {}
        if recipe.ema is not None:
            average = Average(optax.tree.zeros_like(trained), jnp.zeros((), jnp.int32))
        return TrainState(jnp.zeros((), jnp.int32), params, state, recipe.optimizer.init(trained), average)

    first: TrainState = start(key, dict(given or {}))
    return first


def make_step(
    recipe: Recipe,
) -> Callable[[TrainState, Array, Array, Key], tuple[TrainState, dict[str, Any]]]:
    """The step of a recipe: ``(train_state, inputs, targets, key) -> (train_state, log)``.

    It is pure; the randomness of step n comes from ``key`` and n alone. The log holds the loss with its
    penalty, the global norms of gradient, update and parameters, of those that are trained, and each metric's
    statistics of the batch.
    """

    def step(old: TrainState, inputs: Array, targets: Array, key: Key) -> tuple[TrainState, dict[str, Any]]:
        batch = prepare_batch(recipe, old.step, inputs, targets, key)
        trained, frozen = recipe.split(old.params)
        compute = jax.value_and_grad(objective(recipe, frozen), has_aux=True)
        (loss, (state, outputs)), gradient = compute(trained, old.state, batch)
        updates, optimizer, params = descend(recipe, old, batch, loss, gradient)
        average = old.average
        if recipe.ema is not None:
            total = optax.tree.update_moment(params, average.total, recipe.ema, 1)
            average = Average(total, average.values + 1)
        everything = jnp.ones(len(targets), jnp.bool_)
        log = {
            "loss": loss,
            **norms(gradient, updates, params),
            "metrics": {n: m.measure(outputs, batch.targets, everything) for n, m in recipe.metrics.items()},
        }
        new = TrainState(old.step + 1, merge(params, frozen), state, optimizer, average)
        if recipe.skip:
            kept = old._replace(step=new.step)
            good = jnp.isfinite(jnp.stack([log[name] for name in SCALARS])).all()
            new = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, kept)
        return new, log

    return step


def prepare_batch(recipe: Recipe, step: Array, inputs: Array, targets: Array, key: Key) -> Batch:
    """The batch of a step, augmented, with the keys of that step."""
    key = jax.random.fold_in(quick_key(key), step)
    own = name_key(key, "model")
    if recipe.augment is None:
        return Batch(recipe.prepare(inputs), targets, own)
    given: Any = inputs.astype(jnp.float32)
    if targets.ndim == inputs.ndim == 4:  # pictures, which move alike
        given = Paired(given, targets.astype(jnp.float32))
    augmented = recipe.augment(name_key(key, "augment"), given)
    if isinstance(augmented, Paired):
        return Batch(recipe.prepare(augmented.inputs), augmented.targets, own)
    if isinstance(augmented, Mixed):
        return Batch(recipe.prepare(augmented.inputs), targets, own, augmented.partner, augmented.share)
    return Batch(recipe.prepare(augmented), targets, own)


def losses(recipe: Recipe, outputs: Array, batch: Batch) -> Array:
    """The loss of each example; of a mixed one it is mixed, too."""
    own = recipe.loss(outputs, batch.targets)
    if batch.partner is None or batch.share is None:
        return own
    share = batch.share.astype(own.dtype)
    return share * own + (1 - share) * recipe.loss(outputs, batch.targets[batch.partner])


def objective(recipe: Recipe, frozen: Params) -> Callable[..., tuple[Array, tuple[State, Array]]]:
    """What is differentiated: ``(trained params, state, batch) -> (loss, (state, outputs))``."""

    def compute(trained: Params, state: State, batch: Batch) -> tuple[Array, tuple[State, Array]]:
        params = merge(trained, frozen)
        outputs, state = recipe.model.apply(params, state, batch.inputs, key=batch.key, train=True)
        loss = reduce(losses(recipe, outputs, batch), recipe.reduction) + recipe.penalty(params)
        return loss, (state, outputs)

    return compute


def descend(
    recipe: Recipe, old: TrainState, batch: Batch, loss: Array, gradient: Any
) -> tuple[Any, Any, Params]:
    """What the optimiser makes of a gradient: updates, its own state, the new parameters that are trained."""
    trained, frozen = recipe.split(old.params)
    compute = objective(recipe, frozen)
    updates, optimizer = recipe.optimizer.update(
        gradient,
        old.optimizer,
        trained,
        value=loss,
        grad=gradient,
        value_fn=lambda params: compute(params, old.state, batch)[0],
    )
    return updates, optimizer, optax.apply_updates(trained, updates)


def norms(gradient: Any, updates: Any, params: Params) -> dict[str, Array]:
    """The global norms of a step, by their names in its log."""
    trees = (gradient, updates, params)
    return {name: optax.tree.norm(tree) for name, tree in zip(SCALARS[1:], trees, strict=True)}
