"""Script calls on a real Ray cluster of several nodes on this machine, and what becomes of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ray", reason="the extra [ray] is not installed")

from dreambooth_pl.benchmark.executors import ray_cluster, ray_node
from dreambooth_pl.benchmark.executors.call import Resources, ScriptCall
from dreambooth_pl.benchmark.executors.ray_executor import ray_executor
from dreambooth_pl.commands.benchmark import main as benchmark
from dreambooth_pl.commands.train import main as train
from dreambooth_pl.errors import UserError

ROOT = Path(__file__).parents[2]
STORE = 80_000_000  # bytes of a node's object store, Ray's least
E2E = str(Path(__file__).parent)

pytestmark = pytest.mark.ray


class Nodes:
    """A cluster whose nodes come and go. Its head has no cores, so calls run on the others."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # What Ray starts inherits this, and so do the scripts.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), E2E])
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list = []

    def complete(self) -> None:
        """Have new nodes join in the place of those that were killed."""
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE))

    def kill_that_of(self, pid: int) -> None:
        """Kill the node that a script runs on."""
        worker = _parent(pid)
        raylet = _parent(worker)
        (node,) = [n for n in self.nodes if n.all_processes["raylet"][0].process.pid == raylet]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


def _parent(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[1])


def wait_for(what: Callable[[], object], seconds: float = 90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@pytest.fixture()
def nodes(started_nodes: Nodes) -> Nodes:
    """A head and two nodes."""
    started_nodes.complete()
    return started_nodes


@pytest.fixture(scope="module")
def started_nodes() -> Iterator[Nodes]:
    before = os.environ.get("PYTHONPATH")
    found = Nodes()
    yield found
    found.cluster.shutdown()
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before


class Told:
    """Notes what an executor tells, and does something until that says that it is done."""

    def __init__(self, once: Callable[[], bool] = lambda: True) -> None:
        self._once = once
        self.started_calls: list[str] = []
        self.retries: list[tuple[str, str]] = []

    def started(self, call: ScriptCall, where: str = "") -> None:
        assert where
        self.started_calls.append(call.name)

    def retried(self, call: ScriptCall, why: str) -> None:
        self.retries.append((call.name, why))

    def look(self) -> None:
        if self._once():
            self._once = bool  # False


STAND_IN = """
import os, pathlib, signal, sys, time
words = sys.argv[1:]
print(*words, os.environ["OMP_NUM_THREADS"], flush=True)
what = words[0]
if what == "memory" and "--data.batch_size=2" not in words:
    sys.exit("torch.OutOfMemoryError: CUDA out of memory.")
if what == "mistake":
    sys.exit("error: trainer.max_steps is -1")
if what == "begin":
    run = pathlib.Path("jobs/begin/lightning_logs/name/version_3")
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    print("pid", os.getpid(), flush=True)
    time.sleep(120)
if "travel" in " ".join(words):
    print(pathlib.Path.cwd(), pathlib.Path("photos/a.txt").read_text(), flush=True)
    run = pathlib.Path("jobs/travel/lightning_logs/name/version_0")
    if what == "travel":
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").touch()
        (run / "checkpoints/last.ckpt").write_text("step 3")
        print("pid", os.getpid(), flush=True)
        time.sleep(120)
    (run / "lora").mkdir()
    (run / "lora/weights").write_text((run / "checkpoints/last.ckpt").read_text() + ", ended")
if what == "long":
    print("pid", os.getpid(), flush=True)
    def end(*_):
        print("saved", flush=True)
        sys.exit(143)
    signal.signal(signal.SIGTERM, end)
    time.sleep(120)
"""


@pytest.fixture()
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptCall]:
    """Make calls of a script that needs no second to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    Path("stand_in.py").write_text(STAND_IN)

    def make(name: str, **more) -> ScriptCall:
        folder = Path("jobs", name)
        folder.mkdir(parents=True)
        script = str(tmp_path / "stand_in.py")
        return ScriptCall(name, (name,), folder / "log.txt", script, folder, **more)

    return make


def pid_in(log: Path) -> int | None:
    words = log.read_text().split() if log.exists() else []
    return int(words[words.index("pid") + 1]) if "pid" in words else None


def test_what_is_tried_again_and_what_is_not(nodes, calls, tmp_path) -> None:
    """A node is killed under one call, another lacks memory, a third is the user's mistake."""
    tasks = [
        calls("begin"),
        calls("fine"),
        calls("memory", batch=(4, 1), resources=Resources(cpus=1)),
        calls("mistake", batch=(4, 1)),
    ]

    def kill() -> bool:
        if pid := pid_in(tasks[0].log):
            nodes.kill_that_of(pid)
        return pid is not None

    told = Told(kill)
    with ray_executor(nodes.cluster.address, Resources(), tmp_path) as (executor, where):
        assert where == f"Ray at {nodes.cluster.address}" and executor.slots == 2
        ended = {call.name: status for call, status in executor(tasks, told)}
    assert ended == {"begin": 0, "fine": 0, "memory": 0, "mistake": 1}
    lost = {name for name, why in told.retries if why == "its process or node was lost"}
    assert "begin" in lost  # and whatever was on its way to the same node
    assert [pair for pair in told.retries if pair[0] not in lost] in (
        [],
        [("memory", "memory was short; now with batches of 2")],
    )
    assert ("memory", "memory was short; now with batches of 2") in told.retries
    assert told.started_calls.count("begin") == told.started_calls.count("memory") == 2
    assert told.started_calls.count("mistake") == told.started_calls.count("fine") == 1
    assert tasks[0].log.read_text().splitlines()[-1] == (
        "fit --resume jobs/begin/lightning_logs/name/version_3 1"
    )
    assert not list(tmp_path.glob(".token*"))


def test_files_travel_where_nodes_share_no_folder(nodes, calls, tmp_path) -> None:
    """A node is lost after its checkpoint has come back; another one goes on from that."""
    Path("photos").mkdir()
    Path("photos/a.txt").write_text("a dog")
    task = calls("travel", outputs=(Path("jobs/travel"),))
    run = Path("jobs/travel/lightning_logs/name/version_0")

    def kill() -> bool:
        there = (run / "checkpoints/last.ckpt").exists() and pid_in(task.log)
        if there:
            nodes.kill_that_of(pid_in(task.log))
        return bool(there)

    told = Told(kill)
    inputs = [Path("photos")]
    address = nodes.cluster.address
    with ray_executor(address, Resources(), Path("travelled"), inputs, shared=False) as (
        executor,
        _,
    ):
        assert [status for _, status in executor([task], told)] == [0]
    assert told.retries == [("travel", "its process or node was lost")]
    assert (run / "lora/weights").read_text() == "step 3, ended"
    first, second = (line for line in task.log.read_text().splitlines() if "a dog" in line)
    assert first != second and str(tmp_path) not in first + second  # each node has its own folder
    assert not Path(second.split()[0]).exists()  # and loses it at the end
    shutil.rmtree(first.split()[0])  # the killed node's, which a test leaves on the same machine
    assert f"fit --resume {run} 1" in task.log.read_text()
    with (
        pytest.raises(UserError, match="/etc lies outside it. Name it by a path within"),
        ray_executor(address, Resources(), Path("travelled"), [Path("/etc")], shared=False),
    ):
        pass


def test_an_interruption_lets_the_scripts_save_and_ends_them(nodes, calls, tmp_path) -> None:
    task = calls("long")

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    waiter = threading.Thread(
        target=lambda: (wait_for(lambda: pid_in(task.log)), os.kill(os.getpid(), signal.SIGALRM))
    )
    try:
        waiter.start()
        with (
            pytest.raises(KeyboardInterrupt),
            ray_executor(nodes.cluster.address, Resources(), tmp_path) as (executor, _),
        ):
            list(executor([task], Told()))
    finally:
        waiter.join()
        signal.signal(signal.SIGALRM, before)
    assert task.log.read_text().splitlines()[-1] == "saved"
    with pytest.raises(ProcessLookupError):
        os.kill(pid_in(task.log), 0)


def test_what_a_cluster_lacks_is_told_in_one_message(nodes, tmp_path, monkeypatch) -> None:
    address = nodes.cluster.address
    monkeypatch.setattr(ray_cluster.fitting_nodes, "__defaults__", (1.0,))

    def refused(**resources: float) -> str:
        asked = Resources(**resources)
        with pytest.raises(UserError) as error, ray_executor(address, asked, tmp_path):
            pass
        assert "\n" not in str(error.value)
        return str(error.value)

    began = time.monotonic()
    message = refused(gpus=4)
    assert "none of the cluster's 3 nodes has cpus: 1 (the most on a node: 1); gpus: 4 " in message
    assert time.monotonic() - began < 30
    with monkeypatch.context() as patch:
        patch.setattr(ray_node, "PACKAGE", "package_of_nobody")
        assert "has no package_of_nobody. Install the project there" in refused()
    with monkeypatch.context() as patch:
        patch.setattr(ray_node, "source_digest", lambda package: "another")
        with (
            pytest.raises(UserError, match="has another version of the project in"),
            ray_cluster.connected(address),
        ):
            found, _ = ray_cluster.fitting_nodes(Resources())
            project = {"source": "this", "token": "nowhere", "shown": ""}
            ray_cluster.check_nodes(found, project)


def test_addresses_where_nobody_listens(tmp_path) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with (
            pytest.raises(UserError, match=f"{address}: nobody listens there .*ray start --head"),
            ray_executor(address, Resources(), tmp_path),
        ):
            pass
    with (
        pytest.raises(UserError, match="somewhere: is no address"),
        ray_executor("somewhere", Resources(), tmp_path),
    ):
        pass


def scripts(name: str, word: str) -> list[int]:
    """Return the processes of a script that have a word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(one.endswith(name) for one in words) and any(word in one for one in words):
            found.append(int(folder.name))
    return found


def test_nodes_and_the_driver_are_killed_and_the_table_is_that_of_a_quiet_benchmark(
    nodes, fit, tmp_path
) -> None:
    """A node in training, another while generating, then the benchmark itself."""
    gate = tmp_path / "gate"
    prompts = Path("prompts.yaml")
    prompts.write_text(
        "name: many\nimages_per_prompt: 24\n"
        "prompts: {a: ['a {identifier} {class} at sea'], b: ['a {identifier} {class} on ice']}\n"
    )
    words = fit.arguments(trainer__max_steps=4, probe__every_n_steps=0)[1:]
    pairs = [word.removeprefix("--").split("=", maxsplit=1) for word in words]
    own = {key: yaml.safe_load(value) for key, value in pairs}
    photos = own.pop("data.instance_dir")
    own |= {"data.identifier": "sks", "validation.prompts": None, "checkpoint.every_n_steps": 1}
    own |= {"sampling.num_inference_steps": 1, "sampling.batch_size": 2}
    wait = {"class_path": "interruption.WaitAt", "init_args": {"step": 2, "file": str(gate)}}
    own["trainer.callbacks"] = wait
    Path("empty.yaml").write_text("seed_everything: 1\n")
    content = {
        "protocol": str(prompts),
        "configs": ["empty.yaml"],
        "set": own,
        "seeds": [7],
        "subjects": [{"name": "rex", "photos": photos, "class_noun": "dog"}],
        "variants": [{"name": "plain"}],
    }
    Path("small.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, str(ROOT / "benchmark.py"), "--config", "small.yaml"]
    command += ["--device", "cpu", "--executor", "ray", "--address", nodes.cluster.address]
    run = Path("benchmark_runs/small/runs/rex-plain-seed7/lightning_logs/empty/version_0")

    with Path("driver.txt").open("ab") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
    wait_for(lambda: (run / "checkpoints/last.ckpt").is_file() or driver.poll() is not None, 180)
    time.sleep(0.5)
    (trainer,) = scripts("train.py", "rex-plain-seed7")
    nodes.kill_that_of(trainer)
    gate.touch()
    wait_for(lambda: not Path(f"/proc/{trainer}").exists())
    nodes.complete()
    wait_for(lambda: list(run.glob("evaluation/many/tuned/*.png")), 180)
    nodes.kill_that_of(scripts("evaluate.py", "rex-plain-seed7")[0])
    wait_for(lambda: "is tried again" in Path("driver.txt").read_text().split("generation")[-1])
    driver.kill()
    driver.wait()
    wait_for(lambda: not scripts("evaluate.py", "rex-plain-seed7"))
    nodes.complete()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    told = Path("driver.txt").read_text()
    assert f"job 1 of 1: rex-plain-seed7 goes on in {run}" in told
    assert "1 of 1 jobs are complete already" in again.stderr

    out = Path("benchmark_runs/small")
    assert benchmark(["--config", "small.yaml", "--device", "cpu", "--out", "quiet"], Quiet()) == 0
    for name in ("table.md", "table.json", "runs.json", "contact_sheet.png"):
        assert (out / name).read_bytes() == Path("quiet", name).read_bytes(), name


class Quiet:
    """Trains in this process, without any disturbance."""

    slots = 1

    def __call__(self, calls, watch):
        for call in calls:
            watch.started(call)
            yield call, train(call.words())
