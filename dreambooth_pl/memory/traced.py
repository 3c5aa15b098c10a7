"""The memory that a computation takes, counted without taking it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def traced_peak(networks: Iterable[nn.Module], compute: Callable[[], Any]) -> int:
    """Return the most bytes of tensors that a computation holds at once.

    It runs with fake tensors, which have shapes and no values, so that even the largest batch
    takes only seconds. Weights are not counted. Neither is scratch memory inside of single
    operations.

    Args:
        networks: whose weights the computation uses, on the CPU.
        compute: the computation. It makes its own inputs, and must not depend on values.

    Raises:
        RuntimeError: the computation depends on values, or an operation has no fake.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        weights = [
            mode.from_tensor(tensor)
            for network in networks
            for tensor in (*network.parameters(), *network.buffers())
        ]
        with _LiveStorages([weight.untyped_storage() for weight in weights]) as live:
            compute()
    return live.peak


class _LiveStorages(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while they are alive."""

    def __init__(self, known: list[UntypedStorage]) -> None:
        super().__init__()
        self.peak = 0
        self._bytes = 0
        self._kept = known  # or their places could be taken by others
        self._seen = {storage._cdata for storage in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self._bytes += size
        self.peak = max(self.peak, self._bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._bytes -= size
