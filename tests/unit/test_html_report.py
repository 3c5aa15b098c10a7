"""`report.html`, parsed: its numbers, links, texts for screen readers, size; nothing gets out."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from html_page import Page
from PIL import Image

from dreambooth_pl.commands import evaluate as cli_evaluate
from dreambooth_pl.evaluation.bootstrap import Interval
from dreambooth_pl.evaluation.comparison import compare_results
from dreambooth_pl.evaluation.results import Result, Row
from dreambooth_pl.evaluation.score_set import ScoreSet
from dreambooth_pl.reporting.html.charts import Chart, Line
from dreambooth_pl.reporting.html.curves import charts_over_steps
from dreambooth_pl.reporting.html.pictures import Pair, extremes, spread
from dreambooth_pl.reporting.html.report import Report, save_report
from dreambooth_pl.reporting.html.score_tables import score_tables
from dreambooth_pl.reporting.paper import paper_table

MakeRun = Callable[..., Path]
EVIL = "\"><script>alert('1')</script><img src=http://evil.example/x onerror=alert(2)>{{ 7 * 7 }}"
LIMIT = 10_000_000  # bytes


def result(role: str, name: str, level: float, seed: int) -> Result:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 5) if role == "ceiling" else (3, 4)
    scores = {"dino": level + 0.05 * torch.randn(shape, generator=generator)}
    if role != "ceiling":
        scores["clip_t"] = 0.3 + 0.01 * torch.randn(shape, generator=generator)
        scores["div"] = torch.rand((3, 1), generator=generator)
    templates = tuple(f"{EVIL} {n}" for n in range(shape[0]))
    kinds = ("place", "place", EVIL) if role != "ceiling" else ("",)
    own = ScoreSet(EVIL, True, templates, kinds, scores)
    return Result(role, name, EVIL, (own,))


RESULTS = [
    result("ceiling", "real photos", 0.8, 0),
    result("floor", "base", 0.2, 1),
    result("run", f"a {EVIL}", 0.6, 2),
    result("run", "b", 0.62, 3),
]


def draw(path: Path, seed: int, side: int = 96) -> Path:
    """Noise, which no format makes small."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_pairs(folder: Path, run: str, count: int, files: int = 3, side: int = 96) -> list[Pair]:
    tuned, base = (
        [
            draw(folder / what / f"0? #{n}.png", n + 10 * (what == "base"), side)
            for n in range(files)
        ]
        for what in ("tuned", "base")
    )
    return [
        Pair(
            run,
            f"{EVIL} {n}",
            str(n // 4),
            n,
            {"dino": n / count, "clip_t": 1 - n / count},
            tuned[n % files],
            base[n % files],
        )
        for n in range(count)
    ]


def report(tmp_path: Path, **more: object) -> Report:
    return Report(
        title=f"Evaluation of {EVIL}",
        command=("python", "evaluate.py", f"runs/{EVIL}"),
        asked={"photos": f"/{EVIL}", "words": EVIL},
        results=RESULTS,
        comparisons=[compare_results("b", RESULTS[3:], EVIL, RESULTS[2:3])],
        paper=[paper_table("fidelity")],
        notes=[EVIL],
        sheets={f"a {EVIL}": make_pairs(tmp_path / f"a {EVIL[:20].replace('/', '')}", "a", 9)},
        **more,
    )


@pytest.fixture()
def page(tmp_path: Path) -> Page:
    save_report(report(tmp_path), tmp_path / "report.html")
    return Page.of(tmp_path / "report.html")


def test_tables_hold_the_rows_numbers_and_their_bars_stand_in_order(page: Page) -> None:
    rows = page.rows()
    for own in RESULTS:
        texts = [own.name, str(own.row.n_images)]
        for score in ("dino", "clip_t"):
            s = own.row.scores.get(score)
            texts.append("-" if s is None else f"{s.mean:.3f} [{s.low:.3f}, {s.high:.3f}]")
        assert [" ".join(text.split()) for text in texts] in rows
    assert ["DreamBooth, Imagen", "0.696", "0.812", "0.306"] in rows

    table = score_tables([(own.role, own.row) for own in RESULTS])[0]
    bars = [cells[0].bar for _, _, cells in table.rows]
    scores = [own.row.scores["dino"] for own in RESULTS]
    ends = [x for s in scores for x in (s.low, s.high)]
    for bar, score in zip(bars, scores, strict=True):
        for name in ("mean", "low", "high"):
            share = (getattr(score, name) - min(ends)) / (max(ends) - min(ends))
            assert getattr(bar, name) == pytest.approx(4 + share * 112, abs=0.01)
        assert bar.marks == {"floor": bars[1].mean, "ceiling": bars[0].mean}
    spans = [own for own, _ in page.all("line", class_="span")]
    assert (float(spans[0]["x1"]), float(spans[0]["x2"])) == (bars[0].low, bars[0].high)


def test_differences_are_signed_and_their_bars_have_a_zero() -> None:
    (table,) = score_tables([], [compare_results("b", RESULTS[3:], "a", RESULTS[2:3])])[:1]
    ((name, images, cells),) = table.rows
    assert (name, images) == ("b - a", 12) and "Paired" in table.title
    assert cells[0].text.startswith(("+", "-")) and set(cells[0].bar.marks) == {"0"}


def test_nothing_that_users_wrote_becomes_markup(page: Page, tmp_path: Path) -> None:
    text = (tmp_path / "report.html").read_text()
    assert "{{ 7 * 7 }}" in text and "<script>alert" not in text
    (script,) = page.all("script")
    digest = base64.b64encode(
        hashlib.sha256(re.search("<script>(.*)</script>", text, re.S)[1].encode()).digest()
    )
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert f"script-src 'sha256-{digest.decode()}'" in policy[0]["content"]
    assert "default-src 'none'" in policy[0]["content"]
    assert not [own for _, own in page.elements if any(name.startswith("on") for name in own)]
    assert EVIL in {" ".join(text.split()) for _, text in page.all("p")}  # shown as it is
    (command,) = page.all("code")
    assert shlex.split(command[1])[-1] == f"runs/{EVIL}"


def test_page_is_alone_and_links_to_the_full_images(page: Page, tmp_path: Path) -> None:
    assert len(page.links()) == 9 * 2 + 16  # pairs, and best and worst four by two scores
    for url in page.links():
        assert not re.match(r"[a-z]+:|/", url), url
        assert (tmp_path / unquote(url)).is_file()
    assert all(own["src"].startswith("data:image/jpeg;base64,") for own, _ in page.all("img"))
    style = page.all("style")[0][1]
    assert "url(" not in style and "@import" not in style
    assert not page.all("link") and not page.all("iframe")
    image = page.all("img")[0][0]["src"].split(",")[1]
    with Image.open(io.BytesIO(base64.b64decode(image))) as thumbnail:
        assert thumbnail.size == (96, 96)


def test_page_can_be_used_without_eyes_and_mouse(page: Page) -> None:
    assert page.all("html", lang="en") and len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(own["alt"].strip() for own, _ in page.all("img"))
    ids = [own["id"] for _, own in page.elements if "id" in own]
    assert len(set(ids)) == len(ids)
    for _, own in page.elements:
        for name in ("for", "aria-labelledby"):
            assert own.get(name, ids[0]) in ids
        if own.get("href", "").startswith("#"):
            assert own["href"][1:] in ids
    (slider,) = page.all("input", type="range")
    assert page.all("label", for_=slider[0]["id"])[0][1].startswith("untuned base")
    for tag, own in page.elements:
        if tag == "svg":
            assert own.get("aria-hidden") == "true" or own["role"] == "img" and own["aria-label"]
    assert all(own.get("scope") for own, _ in page.all("th"))


def test_eight_hundred_pairs_stay_below_ten_megabytes(tmp_path: Path) -> None:
    sheets = {f"run {n}": make_pairs(tmp_path / str(n), f"run {n}", 200, 4, 256) for n in range(4)}
    save_report(Report("many", (), {}, RESULTS, sheets=sheets), tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < LIMIT
    assert len(page.all("div", class_="pair")) == 800


def test_more_pairs_than_that_are_thinned_out_evenly(tmp_path: Path) -> None:
    pairs = {name: make_pairs(tmp_path, name, 40) for name in "abc"}
    chosen = spread(pairs, most=30)
    assert {name: len(own) for name, own in chosen.items()} == dict.fromkeys("abc", 10)
    assert [pair.template for pair in chosen["a"]] == [str(n) for n in range(10)]  # one a prompt
    save_report(
        Report("many", (), {}, RESULTS, sheets={"a": make_pairs(tmp_path, "a", 900)}),
        tmp_path / "report.html",
    )
    page = Page.of(tmp_path / "report.html")
    assert len(page.all("div", class_="pair")) == 800
    assert any("100 further images" in text for _, text in page.all("p"))


def test_best_and_worst_images_are_those_of_the_scores(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path, "a", 10)
    dino, clip_t = extremes(pairs)
    assert [pair.seed for pair in dino.best] == [9, 8, 7, 6]
    assert [pair.seed for pair in dino.worst] == [0, 1, 2, 3]
    assert [pair.seed for pair in clip_t.best] == [0, 1, 2, 3]
    (few, _) = extremes(pairs[:3])
    assert ([p.seed for p in few.best], [p.seed for p in few.worst]) == ([2], [0])
    assert extremes(pairs[:1]) == []


def test_chart_places_points_on_its_axes() -> None:
    line = Line("a", ((0, 0.0), (50, 0.5), (100, 1.0)), ((0.0, 0.1), (0.4, 0.6), (0.9, 1.2)))
    chart = Chart("DINO", "steps", (line,), {"ceiling": 1.0})
    left, top, right, bottom = chart.frame
    assert [chart.x(x) for x in (0, 50, 100)] == [left, (left + right) / 2, right]
    # 5 % of what the values span stay free above and below
    assert chart.y(0.0 - 0.05 * 1.2) == bottom and chart.y(1.2 + 0.05 * 1.2) == top
    assert chart.y(0.6) == pytest.approx((top + bottom) / 2)
    assert {text for _, text in chart.x_ticks} >= {"0", "100"}
    assert chart.summary == "DINO over steps: a from 0.000 at 0 to 1.000 at 100; ceiling 1.000."


def test_curves_over_steps_come_from_the_log(tmp_path: Path) -> None:
    good, empty = tmp_path / "good", tmp_path / "empty"
    damaged = tmp_path / "damaged"
    for folder in (good, empty, damaged):
        folder.mkdir()
    head = "step,validation/dino,validation/dino_floor,validation/score\n"
    (good / "metrics.csv").write_text(f"{head}5,0.5,0.2,nan\n0,0.25,0.2,\n10,,,\n")
    (damaged / "metrics.csv").write_text(f"{head}x,0.5,0.2,0.1\n")
    (chart,) = charts_over_steps({"damaged": damaged, "empty": empty, "good": good})
    assert (chart.title, chart.levels) == ("DINO", {"floor": 0.2})
    (line,) = chart.lines
    assert (line.name, line.points) == ("good", ((0.0, 0.25), (5.0, 0.5)))


def test_evaluate_saves_a_page_of_all_that_it_says(
    make_run: MakeRun, photo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    prompts = tmp_path / "trial.yaml"
    prompts.write_text(
        'name: trial\nimages_per_prompt: 1\nprompts: ["a {identifier} {class} <at> sea"]\n'
    )
    run, out = make_run(identifier="sks", class_noun="<b>dog</b>"), tmp_path / "out"
    (run / "metrics.csv").write_text("step,validation/dino\n0,0.1\n5,0.3\n")
    words = [run, "--protocol", prompts, "--lora-scale", 0.5, 1, "--class-images", 0]
    words = [*map(str, words), "--device", "cpu", "--save", str(out)]
    assert cli_evaluate.main(words) == 0
    captured = capsys.readouterr()
    assert f"report: {out / 'report.html'}" in captured.err
    page = Page.of(out / "report.html")
    (verdict,) = page.all("p", class_="verdict")
    assert verdict[1] == captured.out.splitlines()[-1] and "on 1 image" in verdict[1]
    assert shlex.split(page.all("code")[0][1]) == ["python", "evaluate.py", *words]
    assert {"a sks <b>dog</b> <at> sea"} == {text for _, text in page.all("span", class_="prompt")}
    assert len(page.all("figure")) >= 2 + 1 + 2  # scale and steps, and the images
    assert len(page.links()) == 2 * 2 + 3 * 2  # two pairs; best and worst by three scores
    for url in page.links():
        assert (out / unquote(url)).is_file()
    keys = dict(row for row in page.rows() if len(row) == 2)
    assert keys["data.class_noun"] == "<b>dog</b>" and keys["seed_everything"] == "42"

    images = run / "evaluation" / "trial" / "scale_0.5"
    words = ["--images", images, "--config", run / "config.yaml", "--save", tmp_path / "second"]
    assert cli_evaluate.main([*map(str, words), "--device", "cpu"]) == 0
    page = Page.of(tmp_path / "second" / "report.html")
    linked = {(tmp_path / "second" / unquote(url)).resolve() for url in page.links()}
    assert linked == {*images.glob("tuned/*.png"), *images.parent.glob("base/*.png")}


def test_scores_without_intervals_and_of_one_value_have_bars() -> None:
    rows = [Row("a", "p", 1, {"dino": Interval(0.5, float("nan"), float("nan"))})] * 2
    (table,) = score_tables([("run", row) for row in rows])
    bars = [cells[0].bar for _, _, cells in table.rows]
    assert {(bar.low, bar.mean, bar.high) for bar in bars} == {(60, 60, 60)}
