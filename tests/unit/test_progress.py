import io

from dreambooth_pl import progress
from dreambooth_pl.progress import ProgressReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_only_plain_lines() -> None:
    stream = io.StringIO()
    reporter = ProgressReporter(stream)
    with reporter.task("class images", total=100) as task:
        for done in range(1, 101):
            task.update(done)
    assert stream.getvalue() == "class images 100/100, in 0:00\n"


def test_lines_come_at_intervals(monkeypatch) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with ProgressReporter(stream).task("training", total=10) as task:
        for done in range(1, 11):
            task.update(done, note="loss 0.1")
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) < 10
    assert "left, loss 0.1" in lines[0]
    assert lines[-1].startswith("training 10/10, in ")


def test_a_resumed_task_reckons_from_where_it_began(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with ProgressReporter(stream).task("training", total=200, completed=100) as task:
        now[0] = 50.0
        task.update(150)
    assert stream.getvalue() == "training 150/200, 0:50 left\n"


def test_on_a_terminal_tasks_nest_and_leave_a_line_each(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    reporter = ProgressReporter(stream)
    with reporter.task("training", total=2) as outer:
        outer.update(1)
        with reporter.task("probes", total=1) as inner:
            inner.update(1)
        outer.update(2)
    assert "probes 1/1" in stream.getvalue()
    assert "training 2/2" in stream.getvalue()
    assert not reporter.bars.tasks
