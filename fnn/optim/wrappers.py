"""What fnn puts around optax's transformations, so that all work on plain parameters under one call."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

Transformation = Any
"""An `optax.GradientTransformationExtraArgs`."""


class LookaheadState(NamedTuple):
    """The slow parameters and the state of `optax.lookahead`."""

    slow: Any
    inner: Any


class AccumulatedState(NamedTuple):
    """The mean loss of the batches so far and the state of `optax.MultiSteps`."""

    value: Any
    steps: Any


def forwarding(constructor: Callable[..., Any], *args: Any, **named: Any) -> Transformation:
    """A transformation that takes any extra argument, and hands each inner one what it asks for.

    Some wrappers of optax (``sam``, ``lookahead``, ``split_real_and_imaginary``) call what they wrap
    without the extra arguments. These are made anew in each update, with the extra arguments bound to
    what they wrap: making one costs nothing, and all its state is in the open.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> polyak = optax.polyak_sgd(max_learning_rate=0.5)
        >>> wrapped = forwarding(optax.contrib.split_real_and_imaginary, inner=polyak)
        >>> params = {"kernel": jnp.ones(2)}
        >>> print(wrapped.update(params, wrapped.init(params), params, value=1.0)[0]["kernel"])
        [-0.5 -0.5]
    """
    with warnings.catch_warnings():
        # they are for whoever writes the name in a program
        warnings.simplefilter("ignore", DeprecationWarning)
        made = constructor(*args, **named)
    takes = inspect.signature(made.update).parameters
    if any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return optax.GradientTransformationExtraArgs(made.init, made.update)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        asked = {key: value for key, value in extra.items() if key in takes}
        others = {key: value for key, value in extra.items() if key not in takes}
        bound = {key: _bind(value, others) for key, value in named.items()}
        return constructor(*args, **bound).update(updates, state, params, **asked)  # type: ignore[no-any-return]

    return optax.GradientTransformationExtraArgs(made.init, update)


def _bind(value: Any, extra: dict[str, Any]) -> Any:
    if not isinstance(value, optax.GradientTransformationExtraArgs):
        return value
    return optax.GradientTransformation(value.init, functools.partial(value.update, **extra))


@functools.wraps(optax.lookahead)
def lookahead(**named: Any) -> Transformation:
    """`optax.lookahead` on plain parameters, the fast ones; the slow ones are kept in the state."""
    inner = forwarding(optax.lookahead, **named)

    def init(params: Any) -> LookaheadState:
        return LookaheadState(params, inner.init(optax.LookaheadParams.init_synced(params)))

    def update(updates: Any, state: LookaheadState, params: Any, **extra: Any) -> tuple[Any, LookaheadState]:
        pair, new = inner.update(updates, state.inner, optax.LookaheadParams(params, state.slow), **extra)
        return pair.fast, LookaheadState(optax.apply_updates(state.slow, pair.slow), new)

    return optax.GradientTransformationExtraArgs(init, update)


def asking(
    constructor: Callable[..., Any], argument: str, made_from: Callable[[Any], Any]
) -> Callable[..., Any]:
    """The same constructor, where an update gets ``argument``, made from ``value_fn``."""

    @functools.wraps(constructor)
    def constructed(**named: Any) -> Transformation:
        inner = forwarding(constructor, **named)

        def update(
            updates: Any, state: Any, params: Any = None, *, value_fn: Any = None, **extra: Any
        ) -> tuple[Any, Any]:
            if value_fn is not None:
                extra = {**extra, "value_fn": value_fn, argument: made_from(value_fn)}
            return inner.update(updates, state, params, **extra)  # type: ignore[no-any-return]

        return optax.GradientTransformationExtraArgs(inner.init, update)

    return constructed


def keyed(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """The same constructor, with its random key in the state as the data of the key: a plain array.

    Without ``key`` or ``seed``, optax's older name, the seed is 0, as it is in optax, which warns.
    """

    @functools.wraps(constructor)
    def constructed(*, key: int | None = None, seed: int | None = None, **named: Any) -> Transformation:
        if key is not None and seed is not None:
            raise ValueError("key and seed are one and the same: give key alone")
        inner = forwarding(constructor, key=key or seed or 0, **named)

        def init(params: Any) -> Any:
            return jax.tree.map(_data, inner.init(params))

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            like = jax.eval_shape(inner.init, updates)
            state = jax.tree.map(lambda k, s: jax.random.wrap_key_data(s) if _is_key(k) else s, like, state)
            updates, state = inner.update(updates, state, params, **extra)
            return updates, jax.tree.map(_data, state)

        return optax.GradientTransformationExtraArgs(init, update)

    return constructed


@functools.wraps(optax.contrib.scale_by_muon)
def scale_by_muon(**named: Any) -> Transformation:
    """`optax.contrib.scale_by_muon`, whose default for the dimension numbers fits no tree of parameters."""
    if named.get("weight_dimension_numbers") is None:
        raise ValueError(
            "needs weight_dimension_numbers: {pattern: {reduction_axis, output_axis}}, or take muon"
        )
    return optax.contrib.scale_by_muon(**named)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _gradient(loss: Any) -> Any:
    return lambda params, _: jax.grad(loss)(params)


def _itself(loss: Any) -> Any:
    return loss


WRAPPED: dict[str, Callable[..., Any]] = {
    "add_noise": keyed(optax.add_noise),
    "hutchinson_estimator_diag_hessian": asking(
        optax.contrib.hutchinson_estimator_diag_hessian, "obj_fn", _itself
    ),
    "lookahead": lookahead,
    "noisy_sgd": keyed(optax.noisy_sgd),
    "sam": asking(optax.contrib.sam, "grad_fn", _gradient),
    "scale_by_muon": scale_by_muon,
    "sophia": asking(optax.contrib.sophia, "obj_fn", _itself),
}
"""What stands in the place of optax's own constructor of the name."""


def accumulated(inner: Transformation, batches: int) -> Transformation:
    """One update for the mean gradient of so many batches, by `optax.MultiSteps`.

    In between, the updates are 0.

    ``value`` is averaged as the gradient is. What evaluates the loss again within an update (a line
    search, sophia, sam's ``opaque_mode``) cannot be served: the loss of the last batch is not the one
    whose gradient was accumulated.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> two = accumulated(optax.sgd(0.5), 2)
        >>> params = {"kernel": jnp.zeros(2)}
        >>> state = two.init(params)
        >>> updates, state = two.update({"kernel": jnp.array([1.0, 2.0])}, state, params)
        >>> updates, state = two.update({"kernel": jnp.array([3.0, 6.0])}, state, params)
        >>> print(updates["kernel"])
        [-1. -2.]
    """
    multi = optax.MultiSteps(inner, batches)

    def init(params: Any) -> AccumulatedState:
        return AccumulatedState(jnp.zeros((), jnp.float32), multi.init(params))

    def update(
        updates: Any, state: AccumulatedState, params: Any = None, *, value: Any = None, **extra: Any
    ) -> tuple[Any, AccumulatedState]:
        mean = state.value
        if value is not None:
            seen = state.steps.mini_step
            mean = jnp.where(seen == 0, value, mean + (value - mean) / (seen + 1))
        extra["value_fn"] = _no_second_look
        updates, steps = multi.update(updates, state.steps, params, value=mean, **extra)
        return updates, AccumulatedState(mean, steps)

    return optax.GradientTransformationExtraArgs(init, update)


def _no_second_look(params: Any) -> Any:
    raise ValueError(
        "evaluates the loss again within an update, which does not fit a gradient accumulated over "
        "batches; expected accumulate: 1"
    )


def multiplied(factors: Any) -> Transformation:
    """Multiplies each update by a number of its own: as if the learning rate were multiplied by it.

    Example:
        >>> import jax.numpy as jnp
        >>> made = multiplied({"kernel": 0.5})
        >>> params = {"kernel": jnp.ones(2)}
        >>> print(made.update(params, made.init(params))[0]["kernel"])
        [0.5 0.5]
    """
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: f * u, updates, factors))


def finished(inner: Transformation) -> Transformation:
    """What the training step calls: its state is made of arrays of types that an update never changes.

    No array of the state is one of the parameters or stands in it twice, so that state and parameters
    can both be donated.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> params = {"kernel": jnp.ones(2)}
        >>> optax.contrib.mechanize(optax.sgd(1.0)).init(params).x0["kernel"] is params["kernel"]
        True
        >>> finished(optax.contrib.mechanize(optax.sgd(1.0))).init(params).x0["kernel"] is params["kernel"]
        False
    """

    def init(params: Any) -> Any:
        taken = {id(leaf) for leaf in jax.tree.leaves(params)}

        def own(leaf: Any) -> Any:
            array = jnp.asarray(leaf, jnp.result_type(leaf))  # an explicit dtype is never a weak one
            array = jnp.copy(array) if id(array) in taken else array
            taken.add(id(array))
            return array

        return jax.tree.map(own, inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, after = inner.update(updates, state, params, **extra)
        return updates, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)

    return optax.GradientTransformationExtraArgs(init, update)


def evaluation_params(opt_state: Any, params: Any) -> Any:
    """The parameters to evaluate and to save, where an optimiser trains at others.

    ``schedule_free`` (Defazio et al. 2024) gives its average, ``lookahead`` (Zhang et al. 2019) its slow
    parameters, ``sam`` (Foret et al. 2021) those from which it has climbed; any other optimiser
    ``params`` themselves.

    Args:
        opt_state: The state of an optimiser from `build`.
        params: The parameters that belong to it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fnn.optim import build, evaluation_params
        >>> params = {"kernel": jnp.ones(2)}
        >>> config = {"lookahead": {"fast_optimizer": {"sgd": 0.5}, "sync_period": 2, "slow_step_size": 0.5}}
        >>> optimizer = build(config, params, total_steps=10, steps_per_epoch=5).transformation
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update({"kernel": jnp.ones(2)}, state, params)
        >>> print(updates["kernel"], evaluation_params(state, params)["kernel"])
        [-0.5 -0.5] [1. 1.]
    """
    for state in jax.tree.leaves(opt_state, is_leaf=holds_params):
        if holds_params(state):
            params = _evaluated(state, params)
    return params


def holds_params(state: Any) -> bool:
    """Whether a state, by itself, has parameters to evaluate at."""
    return isinstance(state, optax.contrib.ScheduleFreeState | optax.contrib.SAMState | LookaheadState)


def _evaluated(state: Any, params: Any) -> Any:
    if isinstance(state, LookaheadState):
        return _over(state.slow, params)
    if isinstance(state, optax.contrib.ScheduleFreeState):
        seen = jax.tree.map(lambda z, p: z if _masked(z) else p, state.z, params, is_leaf=_masked)
        return _over(optax.contrib.schedule_free_eval_params(state, seen), params)
    if state.cache is not None:
        climbed = state.steps_since_sync != 0
        params = jax.tree.map(lambda c, p: jnp.where(climbed, c, p), _over(state.cache, params), params)
    return evaluation_params(state.opt_state, params)


def _over(new: Any, params: Any) -> Any:
    """``params`` with all that an optimiser of some of them has in their place."""
    return jax.tree.map(lambda n, p: p if _masked(n) else n.astype(p.dtype), new, params, is_leaf=_masked)


def _masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
