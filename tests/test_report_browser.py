"""The page in a browser: nothing in the console, every picture seen, on a phone and in the dark."""

from __future__ import annotations

import os
import shutil

import pytest

from .datasets import blobs

pytest.importorskip("matplotlib")
webdriver = pytest.importorskip("selenium.webdriver")

from kmeans_xp.report import cluster_report  # noqa: E402 - skips come first

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LIGHT, DARK = (255, 255, 255), (21, 24, 27)
NAMES = ["<script>console.error(1)</script>", "an income (€ a year)", "$b$"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = os.environ.get("CHROME") or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "no Chromium and chromedriver here: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("KMEANS_XP_TEST_BROWSER") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    x = blobs(11, 150, 3, 4)
    cluster_report(x, title="A" * 300, feature_names=NAMES, n_init=1, random_state=0).save(path)
    return path.as_uri()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page(browser, address, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    browser.get(address)
    assert browser.get_log("browser") == []

    def ask(expression):
        return browser.execute_script(f"return {expression}")

    assert ask("document.documentElement.scrollWidth") <= width  # nothing hangs out of the page
    pictures = "[...document.querySelectorAll('figure svg')]"
    boxes = ask(f"{pictures}.map(e => e.getBoundingClientRect().toJSON())")
    assert len(boxes) == 4
    assert all(box["width"] > 300 and box["height"] > 200 for box in boxes)
    assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)
    # Exponents, the smallest letters there are, can be read; others are half as large again.
    smallest = ask(
        f"Math.min(...{pictures}.flatMap(e => [...e.querySelectorAll('tspan, text')]).map(t => "
        "parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, "
        "t.getScreenCTM().b)))"
    )
    assert smallest >= 6
    background = LIGHT if scheme == "light" else DARK
    assert ask("getComputedStyle(document.body).backgroundColor") == f"rgb{background}"
    ink = ask("getComputedStyle(document.querySelector('figure text')).fill")
    assert ink == ask("getComputedStyle(document.body).color") != f"rgb{background}"
