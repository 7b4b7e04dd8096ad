"""Examples that stay on disk and are read when they are needed: sets that are larger than the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np

from fnn import kernels

PIECE = 32
"""Examples of a batch that one thread reads at a time: few, so that all threads are at the first batch."""
AHEAD = 1 << 28
"""Bytes that are read ahead, about; and two batches at least."""
LOADED = 256
"""Examples at a time that are read into an array."""


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Inputs in place of an array that holds them; what is asked for is read each time.

    It has an array's length, shape and dtype, and an array of indices picks examples as in an array, which is
    all that training and evaluation need. Nothing that is read is kept.

    Attributes:
        read: ``index -> example``, an array of ``example`` and ``dtype``; called by several threads at once.
        indices: What ``read`` is called with for each of the inputs ``(n,)``.
        example: The shape of one.
        dtype: Of all.

    Example:
        >>> import numpy as np
        >>> from fnn.data import OnDisk
        >>> squares = OnDisk(lambda i: np.array([i * i], np.float32), np.arange(1000), (1,), np.dtype("f4"))
        >>> squares.shape, squares[np.array([3, 999])].tolist()
        ((1000, 1), [[9.0], [998001.0]])
    """

    read: Callable[[int], np.ndarray]
    indices: np.ndarray
    example: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """These examples, read one after the other."""
        chosen = self.indices[rows].tolist()
        found = np.empty((len(chosen), *self.example), self.dtype)
        for place, index in zip(found, chosen, strict=True):
            place[...] = self.read(index)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array in whose place this is."""
        return (len(self.indices), *self.example)

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    def rows(self, rows: np.ndarray) -> OnDisk:
        """The same of these examples alone; nothing is read."""
        return replace(self, indices=self.indices[rows])

    def load(self) -> np.ndarray:
        """All of them in an array, read by all threads."""
        whole = np.empty(self.shape, self.dtype)
        starts = range(0, len(self), LOADED)
        batches = self.stream(lambda i: np.arange(starts[i], min(len(self), starts[i] + LOADED)), len(starts))
        for start, batch in zip(starts, batches, strict=True):
            whole[start : start + len(batch)] = batch
        return whole

    def stream(
        self, rows: Callable[[int], np.ndarray], stop: int, *, start: int = 0
    ) -> Generator[np.ndarray]:
        """Batch after batch, read ahead of whoever takes them, by as many threads as there are CPUs.

        Threads, and not processes: Pillow and NumPy release Python's lock while they decode, and processes
        take seconds to start and copy each batch.

        Args:
            rows: ``i -> rows`` of the i-th batch, all but the last one as many; called by several threads.
            stop: How many batches there are.
            start: The first one that is read.

        Yields:
            What ``self[rows(i)]`` is for ``i`` from ``start`` to before ``stop``.
        """
        import grain

        if start >= stop:
            return
        batch = len(rows(start))
        pieces = max(1, -(-batch // PIECE))

        def piece(i: int) -> np.ndarray:
            return self[np.array_split(rows(i // pieces), pieces)[i % pieces]]

        threads = kernels.processors()
        size = max(1, self.dtype.itemsize * math.prod(self.example) * batch // pieces)
        ahead = max(threads, 2 * pieces, min(AHEAD // size, 4 * max(threads, pieces)))
        reading = grain.MapDataset.range(start * pieces, stop * pieces).map(piece)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        found = iter(reading.to_iter_dataset(options).batch(pieces, batch_fn=np.concatenate))
        try:
            yield from found
        finally:
            found.close()
