"""The page in a real browser: its controls work, it says nothing in the console and asks nothing of the network."""

import json
import shutil

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Chromium: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "narrow"])
def opened(browser, page, request):
    width, height = request.param
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # Away first: to go where one is already may end before the page is read again.
    browser.get("about:blank")
    browser.get(page.as_uri())
    return browser


def row(browser, name):
    """Which row of its sheet a view shows, as the browser has it."""
    view = browser.find_element(By.ID, name)
    assert view.size["height"] > 20
    return view.value_of_css_property("background-position"), view.get_attribute("aria-label")


def test_the_page_asks_nothing_of_the_network_and_the_console_stays_empty(opened, page):
    asked = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    addresses = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in addresses
    assert all(address == page.as_uri() or address.startswith("data:") for address in addresses)
    assert opened.get_log("browser") == []
    assert "taken" not in opened.title


def test_the_page_is_as_wide_as_the_window(opened):
    wide, window = opened.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window


def test_pictures_are_decoded(opened):
    sizes = opened.execute_script("return [...document.images].map((i) => i.complete && i.naturalWidth)")
    assert len(sizes) == 8
    assert all(sizes)


def test_sliders_move_by_keys_and_change_what_is_shown(opened):
    for slider, view in (("strength", "strength-view"), ("step", "step-view"), ("angle", "walk-view")):
        before = row(opened, view)
        opened.find_element(By.ID, slider).send_keys(Keys.HOME, Keys.ARROW_RIGHT)
        after = row(opened, view)
        assert before[0] != after[0]
        assert before[1] != after[1]
    assert "strength 0.25" in row(opened, "strength-view")[1]


def test_another_class_shows_other_images(opened):
    pictures = []
    chooser = Select(opened.find_element(By.ID, "view"))
    for option in range(len(chooser.options)):
        chooser.select_by_index(option)
        pictures.append(opened.find_element(By.ID, "strength-view").value_of_css_property("background-image"))
        assert row(opened, "strength-view")[1].startswith(chooser.first_selected_option.text)
    assert len(set(pictures)) == 3


def test_switches_say_and_show_what_is_on(opened):
    boxes = opened.find_elements(By.CSS_SELECTOR, ".bit")
    shown = set()
    for box in boxes:
        box.send_keys(Keys.SPACE)
        shown.add(row(opened, "switch-view"))
    assert len(shown) == len(boxes)
    assert shown.pop()[1].startswith("switched on: ")


def test_the_walk_plays_and_stops(opened):
    button = opened.find_element(By.ID, "play")
    button.send_keys(Keys.ENTER)
    before = row(opened, "walk-view")
    assert button.text == "Stop"
    opened.execute_async_script("setTimeout(arguments[0], 400)")
    button.send_keys(Keys.ENTER)
    stopped = row(opened, "walk-view")
    assert stopped != before
    assert button.text == "Play"
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert row(opened, "walk-view") == stopped


def test_in_the_dark_the_page_is_dark_and_shows_the_dark_pictures(opened):
    used = "return [getComputedStyle(document.body).backgroundColor, document.images[0].currentSrc]"
    light = opened.execute_script(used)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    opened.execute_async_script("setTimeout(arguments[0], 200)")
    dark = opened.execute_script(used)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert dark[0] == "rgb(21, 24, 27)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
