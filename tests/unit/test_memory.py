"""Memory: what is available, what a computation takes, and what is said when it runs out."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from dreambooth_pl.adapters import AdapterSettings, add_adapters, trainable_parameters
from dreambooth_pl.bases.load import load_base
from dreambooth_pl.errors import UserError
from dreambooth_pl.memory import available
from dreambooth_pl.memory.available import available_memory
from dreambooth_pl.memory.check import SWITCH, check_memory
from dreambooth_pl.memory.exhausted import OutOfMemoryError, out_of_memory, tells_out_of_memory
from dreambooth_pl.memory.traced import traced_peak
from dreambooth_pl.sampling.memory import (
    check_generation,
    check_kept_images,
    generation_bound,
    generation_peak,
    predict_anything,
)
from dreambooth_pl.sampling.settings import SamplingSettings

CPU = torch.device("cpu")
GPU_TEXT = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 3.00 GiB is free."
)
CPU_TEXT = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 68719476736 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError(GPU_TEXT),
            "Out of memory on the GPU: 21.5 GB more were asked for.",
        ),
        (RuntimeError(CPU_TEXT), "Out of memory on the CPU: 68.7 GB more were asked for."),
        (
            RuntimeError("[...] not enough memory: you tried to allocate 6000000000 bytes."),
            "6.0 GB",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `c`"), "on the GPU."),
        (RuntimeError("CUDA error: out of memory"), "on the GPU."),
        (MemoryError(), "Out of memory on the CPU."),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "CPU: 8.0 GB more were asked"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "on the CPU."),
    ],
)
def test_running_out_is_told_with_what_to_lower(error, told) -> None:
    @tells_out_of_memory("Lower this, that or those.")
    def main() -> None:
        raise error

    with pytest.raises(UserError) as caught:
        main()
    assert told in str(caught.value)
    assert str(caught.value).endswith(" Lower this, that or those.")


def test_what_a_library_or_we_made_of_it_is_told_too() -> None:
    with pytest.raises(OutOfMemoryError, match="lower"), tells_out_of_memory("lower"):
        try:
            raise RuntimeError(CPU_TEXT)
        except RuntimeError as error:
            raise UserError("model.base: it could not be loaded") from error


def test_other_errors_pass() -> None:
    for error in (
        UserError("model.base: 'out of memory' is no folder"),
        ValueError("7"),
        OSError(),
    ):
        assert out_of_memory(error) is None
        with pytest.raises(type(error)) as caught, tells_out_of_memory("lower"):
            raise error
        assert caught.value is error


def groups(tmp_path: Path, files: dict[str, str]) -> list[int]:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = available._of_groups(tmp_path / "cgroup", tmp_path / "mount")
    return [one.size for one in found]


def test_the_limits_of_containers_count(tmp_path) -> None:
    v2 = {
        "cgroup": "0::/own/inner\n",
        "mount/own/inner/memory.max": "max\n",
        "mount/own/inner/memory.current": "10\n",
        "mount/own/memory.max": "1000\n",
        "mount/own/memory.current": "700\n",
        "mount/own/memory.stat": "anon 5\ninactive_file 50\n",
    }
    assert groups(tmp_path / "v2", v2) == [1000 - 700 + 50]
    v1 = {
        "cgroup": "3:cpu:/x\n9:memory:/host/path\n",  # a path that the container does not see
        "mount/memory/memory.limit_in_bytes": "5000\n",
        "mount/memory/memory.usage_in_bytes": "1000\n",
        "mount/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 20\n",
    }
    assert groups(tmp_path / "v1", v1) == [5000 - 1000 + 20]
    v1["mount/memory/memory.limit_in_bytes"] = "9223372036854771712\n"
    assert groups(tmp_path / "v1", v1) == []
    assert groups(tmp_path / "none", {}) == []


def test_peak_of_a_layer_by_hand() -> None:
    layers = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 10))

    @torch.no_grad()
    def compute() -> None:
        layers(torch.empty(7, 10))

    # input, and two maps of 1000 while the first is replaced by the second
    assert traced_peak([layers], compute) == 4 * 7 * (10 + 2 * 1000)


@pytest.fixture(scope="module")
def adapted(tiny_base_dir):
    base = load_base(str(tiny_base_dir))
    add_adapters(base, AdapterSettings(rank=2), train_text_encoder=False, seed=0)
    return base


def profiled_peak(compute) -> int:
    """The most bytes that PyTorch's own profiler sees allocated at once."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        compute()
    totals = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    level, peak = 0, 0
    for event in sorted(totals, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak


@pytest.mark.parametrize(("rows", "side"), [(2, 32), (16, 32), (4, 64)])
def test_a_step_takes_what_is_counted(adapted, rows, side) -> None:
    trained = list(trainable_parameters(adapted)["unet"].values())

    def step() -> None:
        loss = predict_anything(adapted, rows, (side, side)).square().mean()
        torch.autograd.grad(loss, trained)

    counted, taken = traced_peak(adapted.modules.values(), step), profiled_peak(step)
    assert 0.8 * taken < counted < 1.1 * taken


def test_a_quick_bound_is_above_the_count(adapted) -> None:
    for size, side in ((1, None), (4, 64)):
        settings = SamplingSettings(batch_size=size, resolution=side)
        peak, bound = generation_peak(adapted, settings), generation_bound(adapted, settings)
        assert peak < bound < 40 * peak


def test_what_cannot_fit_is_refused_with_its_numbers(adapted, monkeypatch) -> None:
    huge = SamplingSettings(batch_size=512, resolution=4096)
    told = (
        r"512 images at once of 4096 x 4096 px takes about [\d,]+ GB of memory, and this .* "
        r"available\. Lower it\. If .* DREAMBOOTH_PL_MEMORY_CHECK"
    )
    with pytest.raises(OutOfMemoryError, match=told):
        check_generation(adapted, huge, CPU, "Lower it.")
    with pytest.raises(OutOfMemoryError, match="Keeping 1000000 images"):
        check_kept_images(1_000_000, 4096, "Lower it.")
    monkeypatch.setenv(SWITCH, "off")
    assert check_generation(adapted, huge, CPU, "Lower it.") is None


def test_what_may_not_fit_is_only_noted() -> None:
    free = available_memory(CPU).size
    assert check_memory(free, lambda: free // 4, CPU, "It", "Lower it.") is None
    assert "may not be enough" in check_memory(free, lambda: int(0.8 * free), CPU, "It", "Lower.")

    def uncountable() -> int:
        raise RuntimeError("depends on values")

    assert check_memory(10**18, uncountable, CPU, "It", "Lower it.") is None
    assert check_memory(free // 4, uncountable, CPU, "It", "Lower it.") is None
