"""The peers by name: which file builds them, what they need, and in which variant."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from benchmarks.jobs import Job, Run


@dataclass(frozen=True)
class Peer:
    """A peer.

    Attributes:
        kind: ``fnn``, ``JAX`` or ``PyTorch``.
        module: Its file in this folder.
        package: The distribution that it needs.
        kernels: Which kernels of fnn are forced; None: as the environment says.
        compiled: Whether ``torch.compile`` is used.
    """

    kind: str
    module: str
    package: str
    kernels: str | None = None
    compiled: bool = False


PEERS = {
    "fnn": Peer("fnn", "fnn_peer", "fnn"),
    "fnn_jax": Peer("fnn", "fnn_peer", "fnn", kernels="jax"),
    "fnn_xla": Peer("fnn", "fnn_peer", "fnn", kernels="xla"),
    "linen": Peer("JAX", "linen", "flax"),
    "nnx": Peer("JAX", "nnx", "flax"),
    "equinox": Peer("JAX", "equinox", "equinox"),
    "haiku": Peer("JAX", "haiku", "dm-haiku"),
    "keras": Peer("JAX", "keras_jax", "keras"),
    "torch": Peer("PyTorch", "torch_peer", "torch"),
    "torch_compiled": Peer("PyTorch", "torch_peer", "torch", compiled=True),
}


def prepare(name: str, job: Job, dtype: str, mode: str, device: str = "cpu") -> Run:
    """A job ready to run in this process."""
    peer = PEERS[name]
    module = import_module(f"benchmarks.peers.{peer.module}")
    if peer.kind == "PyTorch":
        return module.prepare(job, dtype, device, compiled=peer.compiled)
    return import_module("benchmarks.peers.jax_steps").prepare(module.build, job, dtype, mode)


def modes(name: str, job: Job) -> tuple[str, ...]:
    """The modes in which a peer does a job: PyTorch has no scan."""
    return job.modes[:1] if PEERS[name].kind == "PyTorch" else job.modes
