"""Laws about values: what they depend on, and what they do not."""

from __future__ import annotations

import jax
import numpy as np

from fnn.layer import LayerError, spec
from fnn.testing.compare import alike, close, differences, equal, made, outcome
from fnn.testing.law import Trial, law


@law
def init_repeats(t: Trial) -> None:
    """One key makes the same parameters and state every time, to the bit."""
    equal("init again", made(t.layer.init(t.init_key, t.x)), made(t.layer.init(t.init_key, t.x)))


@law
def init_reads_shapes(t: Trial) -> None:
    """``init`` reads nothing of its input but shape and dtype."""
    known = made(t.layer.init(t.init_key, t.x))
    equal("init from a ShapeDtypeStruct", made(t.layer.init(t.init_key, spec(t.x))), known)
    equal("init from other values", made(t.layer.init(t.init_key, t.inputs(2)[1])), known)
    shapes = jax.eval_shape(t.layer.init, t.init_key, spec(t.x))
    alike("init under eval_shape", made(shapes), spec(known))


@law
def same_key_same_values(t: Trial) -> None:
    """Training draws from its key alone; a layer that asks for none gives the same with any."""
    first = t.run(train=True)
    equal("the same key again", t.run(train=True), first)
    others = [t.run(key=key, train=True) for key in jax.random.split(t.key, 8)]
    try:
        without = outcome(t.layer.apply(t.params, t.state, t.x, train=True))
    except LayerError:  # it draws at random
        if not any(differences(other, first) for other in others):
            raise AssertionError("it asks for a key, and gives the same with eight others") from None
    else:
        close("without a key", without, first)
        equal("another key", others[0], first)


@law
def evaluation_ignores_key(t: Trial) -> None:
    """Evaluation gives the same with any key or none."""
    first = t.run(state=t.moved, train=False)
    equal("another key", t.run(state=t.moved, key=t.init_key, train=False), first)
    close("without a key", outcome(t.compiled(t.params, t.moved, t.x, train=False)), first)


@law
def evaluation_keeps_state(t: Trial) -> None:
    """Evaluation gives the state back as it was, to the bit."""
    equal("evaluation", {"state": t.run(state=t.moved, train=False)["state"]}, {"state": t.moved})


@law
def rows_are_independent(t: Trial) -> None:
    """In evaluation no example sees another: apart, together or in another order they give the same."""
    x, n = np.asarray(t.x), t.x.shape[0]
    together = t.run(state=t.moved, train=False)["y"]
    apart = [t.run(x[i : i + 1], state=t.moved, train=False)["y"] for i in range(n)]
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *apart)
    close("row by row", {"y": joined}, {"y": together})
    turned = t.run(np.roll(x, 1, 0), state=t.moved, train=False)["y"]
    close("in another order", {"y": turned}, {"y": jax.tree.map(lambda y: np.roll(y, 1, 0), together)})
