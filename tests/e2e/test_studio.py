"""The studio, driven by a real browser from photos to a downloaded export.

Skipped where Gradio, Playwright or a Chromium is not installed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

REPOSITORY = Path(__file__).parents[2]
STEPS = 30
SETTINGS = {
    "trainer.max_steps": STEPS,
    "data.resolution": 32,
    "data.num_class_images": 3,
    "sampling.num_inference_steps": 2,
    "probe.every_n_steps": 3,
}
TABS = ("1 · Photos", "2 · Train", "3 · Generate", "4 · Compare", "5 · Take it with you")
WAIT = 300_000  # milliseconds; for a loaded machine


@dataclass
class Server:
    """A studio in a working folder of its own, which can be killed and started again."""

    cwd: Path
    url: str = ""
    process: subprocess.Popen | None = None
    slow: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = self.cwd / "server.log"
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "studio.py"), "--port", "0"],
                cwd=self.cwd,
                stderr=file,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        self.url = found[0]

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def seconds_to_answer(self) -> float:
        """Return how long the page takes to answer."""
        before = time.monotonic()
        with urllib.request.urlopen(f"{self.url}/en/config") as answer:
            answer.read()
        return time.monotonic() - before


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("studio"))
    server.start()
    yield server
    server.process.terminate()
    server.process.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Page:
    """The studio's page in a browser, and what a user does there."""

    page: playwright.Page
    requests: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: playwright.Browser, url: str) -> Page:
        self = cls(browser.new_context(locale="en-GB").new_page())
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.go(url)
        return self

    def go(self, url: str) -> None:
        self.page.goto(f"{url}/")
        self.page.get_by_role("tab", name=TABS[0]).wait_for()

    def tab(self, number: int) -> None:
        self.page.get_by_role("tab", name=TABS[number - 1]).click()

    def expect(self, selector: str, text: str) -> None:
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def choose(self, label: str, option: str) -> None:
        box = self.page.get_by_label(label, exact=True).locator("visible=true").first
        box.click()
        self.page.get_by_role("option", name=option, exact=True).locator("visible=true").click()

    def set_value(self, key: str, value: object) -> None:
        """Change a setting of training."""
        box = self.page.locator("#train-key input")
        box.click()
        box.fill(key)
        self.page.get_by_role("option", name=key, exact=True).click()
        self.expect("#train-about", key)
        field = self.page.locator("#train-value input")
        field.fill(str(value))
        field.press("Enter")
        self.page.locator("#train-put").click()
        self.expect("#train-changed tr", key)

    def button(self, selector: str) -> None:
        self.page.locator(f"{selector}:not([disabled])").click()

    def serious_faults(self) -> list[str]:
        """Return what axe-core finds on the tab that hinders people seriously."""
        found = axe.Axe().run(self.page).response["violations"]
        return [one["help"] for one in found if one["impact"] in ("serious", "critical")]

    def pictures(self, selector: str, count: int) -> list[str]:
        self.page.wait_for_function(
            "([selector, count]) => document.querySelectorAll(selector).length >= count",
            arg=[selector, count],
        )
        return [one.get_attribute("src") for one in self.page.locator(selector).all()]


def test_from_photos_to_a_download(
    server: Server,
    browser: playwright.Browser,
    write_photos: Callable[[Path], Path],
    tiny_base_dir: Path,
) -> None:
    photos = sorted(write_photos(server.cwd / "camera").iterdir())
    page = Page.open(browser, server.url)

    # Photos
    page.choose("Subject", "A new subject")
    page.page.get_by_label("Name of the subject").fill("Rex")
    page.page.locator("#photos-upload input[type=file]").set_input_files(photos)
    page.expect("#photos-cards", "5 photos can be used, 5 of them")
    assert page.page.locator("#photos-cards li").count() == 5
    page.expect("#photos-cards li", "less than half of data.resolution")

    # Train, see probes arrive, stop
    page.tab(2)
    page.page.get_by_label("Another base of this family").fill(str(tiny_base_dir))
    page.page.get_by_role("button", name="All other settings").click()
    for key, value in SETTINGS.items():
        page.set_value(key, value)
    page.button("#train-start")
    page.expect("#train-panel .st-state", "Training")
    for step in (0, 3):
        page.page.locator(f'.st-frame[data-step="{step}"] img').first.wait_for()
    assert server.seconds_to_answer() < 5  # on a loaded machine; 0.2 s on an idle one
    page.button("#train-stop")
    page.expect("#train-panel .st-state", "Stopped")
    (run,) = (server.cwd / "lightning_logs").glob("*/version_0")
    assert run.parent.name == "miniature-usual-Rex"
    assert (run / "checkpoints/last.ckpt").is_file()

    # Reload, go on, and take the server away meanwhile
    page.go(server.url)
    page.tab(2)
    page.expect("#train-panel .st-state", "Stopped")
    page.button("#train-go-on")
    page.expect("#train-panel .st-state", "Training")
    server.kill()
    server.start()
    other = Page.open(browser, server.url)  # a second browser sees the same run
    page.go(server.url)
    for one in (page, other):
        one.tab(2)
        one.expect("#train-panel .st-state", f"step {STEPS} of {STEPS}")
        one.expect("#train-panel .st-state", "Finished")
    frames = page.page.locator(".st-frame").all()
    assert [int(one.get_attribute("data-step")) for one in frames] == list(range(0, STEPS + 1, 3))
    assert page.page.locator(".st-frame.best").count() == 1

    # Generate at two scales
    page.tab(3)
    page.page.locator("#generate-run input").wait_for()
    page.page.get_by_role("button", name="Seed, number of images").click()
    page.page.get_by_label("Images", exact=True).fill("1")
    scale = page.page.locator("#generate-unet input[type=number]")
    addresses = []
    for value, count in (("1", 2), ("0.2", 1)):
        scale.fill(value)
        scale.press("Tab")
        page.button("#generate-ask")
        page.expect("#generate-result .st-box", "At work")
        page.expect("#generate-result .st-box", "Done")
        addresses.append(page.pictures("#generate-result .st-pair img", count)[0])
        page.page.get_by_label("Also generate with the untuned base").uncheck()
    images = [urllib.request.urlopen(f"{server.url}{a}").read() for a in addresses]
    assert images[0] != images[1]

    # Compare
    page.tab(4)
    page.choose("Prompts", "The 8 probes (quick, too few to tell runs apart)")
    page.button("#compare-ask")
    page.expect("#compare-tables table", "real photos")
    assert len(page.pictures("#compare-result .st-sheets img", 1))

    # Take it with you
    page.tab(5)
    page.button("#take-export")
    page.expect("#take-result .st-box", "Done")
    with page.page.expect_download() as download:
        page.page.locator("#take-result a.st-download").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        names = [Path(name).name for name in archive.namelist()]
    assert {"README.md", "pytorch_lora_weights.safetensors"} <= set(names)
    page.page.get_by_role("button", name="Model card").click()
    page.expect("#take-card", "Rex")

    for number in range(1, len(TABS) + 1):
        page.tab(number)
        assert page.serious_faults() == []

    own = ("http://127.0.0.1:", "data:", "blob:")  # nothing comes from elsewhere
    for one in (page, other):
        assert [url for url in one.requests if not url.startswith(own)] == []
