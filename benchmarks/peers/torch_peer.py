"""PyTorch, eager and compiled, each in the form that was the faster in trials on a Xeon with AMX.

Images and convolutions are channels last, optimisers fused. Training in bfloat16 is by autocast (as fast as
casting the parameters by hand); inference casts the whole module, and compiled it is frozen, its parameters
constants of the program. On a GPU products of float32 are in TF32, as JAX makes them there.
"""

from __future__ import annotations

import os
from itertools import cycle

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.jobs import Job, Run, make_batches
from benchmarks.networks import (
    Conv,
    Dense,
    Depthwise,
    Layers,
    Norm,
    Shape,
    Weights,
    channels_first,
    make_weights,
    output_shape,
)
from benchmarks.networks import Residual as Branches

LEAVES = {"weight": "kernel", "bias": "bias"}
NORM_LEAVES = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
OPTIMIZERS = {
    "adam": lambda params: torch.optim.Adam(params, 1e-3, fused=True),
    "sgd": lambda params: torch.optim.SGD(params, 0.01, momentum=0.9, fused=True),
}


class Residual(nn.Module):
    """``body(x) + skip(x)``; an empty skip is the identity."""

    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.skip(x)


def sequence(layers: Layers, shape: Shape) -> nn.Sequential:
    sequential = nn.Sequential()
    for i, layer in enumerate(layers):
        channels = shape[-1]
        match layer:
            case Conv(_, features, k, stride, bias):
                module: nn.Module = nn.Conv2d(channels, features, k, stride, k // 2, bias=bias)
            case Depthwise(_, stride, k):
                module = nn.Conv2d(channels, channels, k, stride, k // 2, groups=channels, bias=False)
            case Norm():
                module = nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)
            case Dense(_, features):
                module = nn.Linear(channels, features)
            case Branches(_, body, skip):
                module = Residual(sequence(body, shape), sequence(skip, shape))
            case "relu":
                module = nn.ReLU(inplace=True)
            case "max_pool":
                module = nn.MaxPool2d(2)
            case "flatten":
                module = nn.Flatten()
            case "global_avg_pool":
                module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        sequential.add_module(getattr(layer, "name", f"{layer}{i}"), module)
        shape = output_shape(layer, shape)
    return sequential


def load(model: nn.Module, weights: Weights) -> None:
    state = model.state_dict()
    for path, old in state.items():
        module, leaf = path.rsplit(".", 1)
        names = NORM_LEAVES if f"{module}.running_mean" in state else LEAVES
        if leaf in names:
            new = weights[f"{module.replace('.', '/')}/{names[leaf]}"]
            with torch.no_grad():
                old.copy_(torch.from_numpy(new))


TORCH = {"cpu": "cpu", "gpu": "cuda"}


def make_model(job: Job, device: str) -> nn.Module:
    model = sequence(job.layers, job.shape)
    load(model, channels_first(job.layers, job.shape, make_weights(job.layers, job.shape)))
    return model.to(TORCH[device], memory_format=torch.channels_last)


def make_inputs(job: Job, device: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and labels of the batches. Images are ``NCHW`` in the memory order of ``NHWC``."""
    x, y = make_batches(job)
    inputs = torch.from_numpy(x).to(TORCH[device])
    if len(job.shape) == 3:
        inputs = inputs.permute(0, 1, 4, 2, 3)
    return list(zip(inputs, torch.from_numpy(y.astype(np.int64)).to(TORCH[device]), strict=True))


def prepare(job: Job, dtype: str, device: str, *, compiled: bool) -> Run:
    """A job on all cores, or on a GPU."""
    torch.set_num_threads(os.cpu_count())
    torch.set_float32_matmul_precision("high" if device == "gpu" else "highest")
    batches = make_inputs(job, device)
    if job.optimizer is None:
        model = make_model(job, device).eval()
        return _inference(model, [x for x, _ in batches], getattr(torch, dtype), compiled)
    model = make_model(job, device)
    forward = torch.compile(model) if compiled else model
    optimizer = OPTIMIZERS[job.optimizer](model.parameters())
    turn = cycle(batches)

    def logits(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(TORCH[device], torch.bfloat16, enabled=dtype == "bfloat16"):
            return forward(x).float()

    def call(n: int) -> np.ndarray:
        for _ in range(n):
            x, y = next(turn)
            optimizer.zero_grad()
            loss = functional.cross_entropy(logits(x), y)
            loss.backward()
            optimizer.step()
        return loss.detach().cpu().numpy()

    return Run(lambda: logits(batches[0][0]).detach().cpu().numpy(), call, 1)


def _inference(model: nn.Module, batches: list[torch.Tensor], dtype: torch.dtype, compiled: bool) -> Run:
    model, batches = model.to(dtype), [x.to(dtype) for x in batches]
    forward = torch.compile(model, options={"freezing": True}) if compiled else model
    turn = cycle(batches)

    @torch.inference_mode()
    def logits() -> np.ndarray:
        return forward(batches[0]).float().cpu().numpy()

    @torch.inference_mode()
    def call(n: int) -> None:
        for _ in range(n):
            forward(next(turn)).cpu()

    return Run(logits, call, 1)
