"""The page of a run in a real browser: it fits phones and desktops, suits both themes, loads nothing.

A wrapper page shows it in frames of given widths (a browser window has a least width), measures there,
and writes what it found into its own document, which Chromium prints.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from run_folders import write_layers, write_run

from lowprec.app.page.document import page
from lowprec.app.page.folder import read

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (375, 1280)
SECTIONS = ["results", "curves", "lost", "layers", "schemes", "settings", "repeat"]
LEAST_CONTRAST = 4.5  # WCAG 2, level AA, for text

MEASURE = """
const channels = color => color.match(/[\\d.]+/g).map(Number);
const luminance = color => {
  const [r, g, b] = channels(color).slice(0, 3).map(c => {
    c /= 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const measured = frame => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const style = element => view.getComputedStyle(element);
  const behind = element => {
    while (element && channels(style(element).backgroundColor)[3] === 0) element = element.parentElement;
    return style(element || page.body).backgroundColor;
  };
  const words = [...page.body.querySelectorAll("*")].filter(element =>
    [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    && element.getClientRects().length && !["title", "desc"].includes(element.localName));
  const contrasts = words.map(element => [
    contrast(element.closest("svg") ? style(element).fill : style(element).color, behind(element)),
    element.textContent.trim().slice(0, 40)]);
  const visible = element => {
    const box = element.getBoundingClientRect();
    return box.width > 100 && box.height > 20 && style(element).visibility === "visible";
  };
  return {
    width: root.clientWidth,
    scroll: root.scrollWidth,
    background: style(page.body).backgroundColor,
    sections: [...page.querySelectorAll("section")].filter(visible).map(section => section.id),
    drawings: [...page.querySelectorAll("svg[role=img]")].filter(visible).length,
    words: words.length,
    worst: contrasts.sort((a, b) => a[0] - b[0])[0],
    resources: view.performance.getEntriesByType("resource").map(entry => entry.name),
    fills: [...new Set([...page.querySelectorAll(".heat path")].map(cell => style(cell).fill))],
  };
};
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(measured);
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's path."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    return found


def browse(chromium: str, file: Path, profile: Path, *, dark: bool) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what was written to the console."""
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--window-size=1400,1000", "--enable-logging=stderr", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run that broke down and was stopped: it has every part that a page can have."""
    folder = tmp_path_factory.mktemp("browser") / ("a long name of a folder " * 4).strip()
    write_run(folder, seeds=2, finished=6, broken="fixed8", epochs=12)
    write_layers(folder, layers=("stem.conv", "stage1.block0.first_convolution", "head"))
    return folder


@pytest.fixture(scope="module", params=["light", "dark"])
def found(request, chromium, folder, tmp_path_factory):
    """What was measured at each width, in one theme, and the console."""
    source = html.escape(page(read(folder)))
    frames = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{source}"></iframe>'
        for width in WIDTHS
    )
    place = tmp_path_factory.mktemp("wrapper")
    wrapper = place / "wrapper.html"
    wrapper.write_text(
        '<!DOCTYPE html><html style="color-scheme: light dark"><meta charset="utf-8">'
        f'<script>{MEASURE}</script><body>{frames}<pre id="found"></pre>',
        encoding="utf-8",
    )
    document, console = browse(chromium, wrapper, place / "profile", dark=request.param == "dark")
    written = re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)
    assert written, document[-2000:]
    measured = json.loads(html.unescape(written[1]))
    return request.param, dict(zip(WIDTHS, measured, strict=True)), console


def test_the_page_fits_its_width(found):
    _, measured, _ = found
    for width in WIDTHS:
        assert measured[width]["width"] > width - 20  # a scroll bar may take some
        assert measured[width]["scroll"] == measured[width]["width"]


def test_every_section_is_visible_and_drawn(found):
    _, measured, _ = found
    for width in WIDTHS:
        assert measured[width]["sections"] == SECTIONS
        assert measured[width]["drawings"] >= 4 + 15  # charts, and strips of the heat maps


def test_the_theme_is_the_readers(found):
    theme, measured, _ = found
    for width in WIDTHS:
        red, green, blue = map(int, re.findall(r"\d+", measured[width]["background"])[:3])
        assert min(red, green, blue) > 230 if theme == "light" else max(red, green, blue) < 50
        assert len(measured[width]["fills"]) >= 4  # levels, and NaN


def test_all_text_has_contrast(found):
    _, measured, _ = found
    for width in WIDTHS:
        contrast, words = measured[width]["worst"]
        assert contrast >= LEAST_CONTRAST, words
        assert measured[width]["words"] > 100


def test_nothing_is_loaded_and_the_console_is_silent(found):
    _, measured, console = found
    assert console == []
    assert [measured[width]["resources"] for width in WIDTHS] == [[], []]


def test_the_file_itself_opens(chromium, folder, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(read(folder)), encoding="utf-8")
    document, console = browse(chromium, file, tmp_path / "profile", dark=False)
    assert console == []
    assert re.findall('<section id="([a-z]+)"', document) == SECTIONS
