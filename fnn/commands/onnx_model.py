"""A program of JAX as an ONNX model, by jax2onnx."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import jax
import numpy as np

from fnn.data.dataset import brief

LARGEST = 2**31 - 1
"""Bytes of a protobuf message, which an ONNX file is."""


class OnnxError(ValueError):
    """A program cannot be converted to ONNX, or what converts it is not installed."""


def onnx_model(
    program: Callable[[jax.Array], jax.Array],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    metadata: Mapping[str, str],
) -> bytes:
    """The bytes of an ONNX model with one input ``examples`` and one output ``outputs``.

    Args:
        program: From a batch of examples to a batch of outputs; of JAX's own operations alone, see
            `fnn.kernels.plain`.
        shape: Of one example; the batch is of any size.
        dtype: Of the examples.
        metadata: What the model says of itself, by name.

    Raises:
        OnnxError: jax2onnx is not installed, or knows one of the operations not, or the model is too large.
    """
    with _silent():
        try:
            from jax2onnx import to_onnx
        except ImportError as error:
            raise OnnxError(
                f"ONNX is written by jax2onnx: pip install 'fnn[onnx]' ({brief(error)})"
            ) from None
        example = jax.ShapeDtypeStruct(("batch", *shape), dtype)
        try:
            model = to_onnx(
                program, [example], model_name="fnn", input_names=["examples"], output_names=["outputs"]
            )
        except Exception as error:  # of many kinds, by operation
            raise OnnxError(f"jax2onnx cannot convert this model: {brief(error)}") from None
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    if model.ByteSize() > LARGEST:
        raise OnnxError(
            f"an ONNX file holds {LARGEST:,} bytes at most, this model takes {model.ByteSize():,}"
        )
    data: bytes = model.SerializeToString()
    return data


@contextmanager
def _silent() -> Iterator[None]:
    """Plugins for libraries that are not there are logged with whole tracebacks."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            yield
    finally:
        logging.disable(before)
