"""The explorer's page: complete, small, and in agreement with the library in a real browser."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from segaware_np.explore import build_page, describe_network, embedding_error, make_page
from segaware_np.explore.packing import pack_embedding, pack_image
from segaware_np.inference import embed
from segaware_np.models import embedding_network, segmentation_network
from segaware_np.ops.distance import distance_forward
from segaware_np.ops.mask import exponential_mask_forward, normalized_mask_forward
from segaware_np.window import Window


def scene(height, width, channels, seed=0):
    """A picture of two noisy halves, and an embedding that follows it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    side = (x + 0.4 * y > 0.6)[..., None]
    image = np.where(side, [40, 90, 160], [210, 180, 60]) + rng.normal(0, 12, (height, width, 3))
    image = image.clip(0, 255).astype(np.uint8)
    waves = np.stack([np.sin(7 * x), np.cos(5 * y), 2.0 * side[..., 0]])
    embedding = np.tensordot(rng.normal(size=(channels, 3)), waves, 1)
    return image, (embedding + rng.normal(0, 0.002, embedding.shape)).astype(np.float32)


def library_mask(embedding, state):
    """The weights that the page should show in this state."""
    window = Window.same(state["kernel"], dilation=state["dilation"])
    d, _ = distance_forward(embedding[None], window, state["norm"], remove_bounds=True)
    of = {"exponential": exponential_mask_forward, "normalized": normalized_mask_forward}
    mask, _ = of[state["kind"]](d, state["scale"])
    return mask[0, :, state["y"], state["x"]]


def test_page_holds_everything_and_asks_for_nothing():
    image, embedding = scene(24, 32, 5)
    page = build_page(image, embedding, title="<b> & {{data}}")
    assert "&lt;b&gt; &amp; {{data}}" in page  # a title is text, not markup and not a slot
    assert page.count("{{") == 2  # title and footer
    assert not re.search(r"\b(src|href)=|url\(|@import|https?:|fetch\(|XMLHttp", page)
    assert "default-src 'none'" in page


def test_a_page_of_640x480_is_below_4_mb_even_for_noise():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    page = build_page(image, rng.normal(size=(8, 480, 640)).astype(np.float32))
    assert len(page.encode()) < 4_000_000


def test_a_page_of_640x480_holds_the_published_embedding_network():
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (60, 80, 3)), np.ones((8, 8, 1)))
    image = (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)
    page = make_page(image, embedding_network(), title="noise")
    assert len(page.html.encode()) < 4_000_000
    assert page.note.endswith("The page computes the embedding itself, by 596,544 parameters.")


def test_what_is_rounded_says_so_and_how_large_a_page_would_do():
    image, _ = scene(64, 96, 3)
    net = embedding_network((4,), (1,), 40)
    small = make_page(image, np.random.default_rng(0).normal(size=(40, 64, 96)), megabytes=0.15)
    assert re.search(r"by 0\.\d+ on average and 0\.\d+ at worst \(a page of 1 meg", small.note)
    assert (
        describe_network(segmentation_network(3, (4,), (1,), aware=True, embedding="rgb")) is None
    )
    least = (50_100 + 4 / 3 * (len(pack_image(image).stream) + 64 * 96)) / 1e6
    assert "rounded" in make_page(image, embedding_network((40,), (3,), 40), megabytes=least).note
    assert "computes" in make_page(image, net, megabytes=least).note


def test_rounding_of_an_embedding_is_measured_and_shrinks_with_room():
    _, embedding = scene(60, 80, 16)
    errors = []
    for room in (2, 6, 24):
        packed = pack_embedding(embedding, room * 60 * 80)
        assert len(packed.stream) <= 1.01 * room * 60 * 80 + 64
        errors.append(embedding_error(embedding, packed))
    assert sorted(errors, reverse=True) == errors
    assert errors[-1][1] < 1e-2


def test_picture_is_packed_without_loss():
    image, _ = scene(9, 7, 1)
    np.testing.assert_array_equal(
        np.rint(pack_image(image).values * 255), np.moveaxis(image, -1, 0)
    )


def test_constant_embedding_and_single_pixel():
    packed = pack_embedding(np.full((4, 1, 1), 7.0), 0)
    assert packed.levels.shape == (1, 1, 1)
    assert not packed.values.any()


@pytest.mark.parametrize(
    ("image", "embedding", "message"),
    [
        (np.zeros((4, 4, 3)), None, "image: expected an? integer array"),
        (np.zeros((4, 4, 3), np.int32), None, "image: expected dtype uint8, got int32"),
        (np.zeros((4, 4), np.uint8), None, r"image: expected shape \(H, W, 3\), got \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), None, "image: expected at least one pixel"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 5)), r"embedding: expected .*\(E, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), np.full((2, 4, 4), np.nan), "embedding: expected finite"),
        (np.zeros((999, 999, 3), np.uint8), np.zeros((1, 999, 999)), r"megabytes: .* 7.0 or more"),
    ],
)
def test_errors(image, embedding, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build_page(image, embedding, megabytes=1)


# ---- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(browser, tmp_path):
    """Open a page, wait until it is ready, and fail on whatever its console complains about."""
    from selenium.webdriver.support.wait import WebDriverWait

    def open_page(image, embedding, width, height, meanwhile="", **options):
        path = tmp_path / "page.html"
        path.write_text(build_page(image, embedding, title="scene", **options), "utf-8")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        browser.get(path.as_uri())
        if meanwhile:
            soon = WebDriverWait(browser, 60, poll_frequency=0.02)
            soon.until(lambda chrome: chrome.execute_script(COMPUTING))
            browser.execute_script(meanwhile)
        ready = "return document.documentElement.dataset.ready"
        WebDriverWait(browser, 60).until(lambda chrome: chrome.execute_script(ready))
        return browser

    yield open_page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def assert_agrees(chrome, image, embedding, atol=1e-2):
    state, shown = json.loads(
        chrome.execute_script("return JSON.stringify([explorer.state, explorer.mask()])")
    )
    rgb = np.moveaxis(image, -1, 0).astype(np.float64) / 255
    expected = library_mask(rgb if state["source"] == "rgb" else embedding, state)
    np.testing.assert_allclose(shown, expected, atol=1e-6 if state["source"] == "rgb" else atol)
    return state


COMPUTING = (
    "return !document.documentElement.dataset.ready"
    " && document.querySelector('[value=learned] + span').textContent.endsWith('%')"
)


def keep_screenshot(chrome, name):
    folder = os.environ.get("SEGAWARE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        chrome.save_screenshot(str(Path(folder) / name))


def wait_for_filter(chrome):
    from selenium.webdriver.support.wait import WebDriverWait

    done = "return document.getElementById('progress').classList.contains('done')"
    WebDriverWait(chrome, 60).until(lambda each: each.execute_script(done))


def test_masks_agree_after_clicks_keys_and_every_control(page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    image, embedding = scene(64, 96, 12)
    chrome = page(image, embedding, 1280, 900)
    assert assert_agrees(chrome, image, embedding)["source"] == "learned"

    frame = chrome.find_element(By.ID, "frame")
    ActionChains(chrome).move_to_element_with_offset(frame, 40, -25).click().perform()
    picked = assert_agrees(chrome, image, embedding)
    assert picked["x"] > 48 and picked["y"] < 32

    frame.send_keys(Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    moved = assert_agrees(chrome, image, embedding)
    assert (moved["x"], moved["y"]) == (picked["x"] - 1, picked["y"] + 1)
    ActionChains(chrome).key_down(Keys.SHIFT).send_keys(Keys.ARROW_UP * 9).key_up(
        Keys.SHIFT
    ).perform()
    assert assert_agrees(chrome, image, embedding)["y"] == 0  # part of the window is outside

    slider = chrome.find_element(By.NAME, "scale")
    before = moved["scale"]
    slider.send_keys(Keys.ARROW_RIGHT * 5)
    assert assert_agrees(chrome, image, embedding)["scale"] > before
    slider.send_keys(Keys.HOME)
    assert assert_agrees(chrome, image, embedding)["scale"] == 0
    slider.send_keys(Keys.ARROW_RIGHT * 40)

    seen = set()
    for source in ("rgb", "learned"):
        for norm in ("L1", "L2"):
            for kind in ("exponential", "normalized"):
                for value in (source, norm, kind):
                    label = f"//input[@value='{value}']/following-sibling::span"
                    chrome.find_element(By.XPATH, label).click()
                for kernel, dilation in (("5", "1"), ("13", "2")):
                    Select(chrome.find_element(By.NAME, "kernel")).select_by_value(kernel)
                    Select(chrome.find_element(By.NAME, "dilation")).select_by_value(dilation)
                    state = assert_agrees(chrome, image, embedding)
                    seen.add(tuple(state[n] for n in ("source", "norm", "kind", "kernel")))
    assert len(seen) == 16

    chrome.find_elements(By.CSS_SELECTOR, "#strip button")[2].click()
    state = assert_agrees(chrome, image, embedding)
    assert (state["kernel"], state["dilation"]) == (3, 5)


def test_a_rounded_embedding_gives_the_librarys_masks_of_what_was_kept(page):
    image, embedding = scene(64, 96, 12)
    room = 2 * 64 * 96
    megabytes = (50_000 + (len(pack_image(image).stream) + room) * 4 / 3) / 1e6
    chrome = page(image, embedding, 1280, 900, megabytes=megabytes)
    kept = pack_embedding(embedding, room).values
    kept = kept + embedding.mean((1, 2))[:, None, None]
    assert np.abs(kept - embedding).max() > 0.005
    state, shown = json.loads(
        chrome.execute_script("return JSON.stringify([explorer.state, explorer.mask()])")
    )
    np.testing.assert_allclose(shown, library_mask(kept, state), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "widths", "depths", "taps"),
    [
        ((63, 95), (6, 8, 5), (2, 1, 2), 7),
        ((48, 40), (4,), (1,), 3),
        ((480, 640), (16, 32, 32), (2, 1, 1), 16),
    ],
)
def test_the_page_computes_what_the_network_computes(page, shape, widths, depths, taps):
    image, _ = scene(*shape, 1)
    net = embedding_network(widths, depths, taps, seed=5)
    rng = np.random.default_rng(0)
    for name, parameter in net.parameters().items():
        if name.endswith("bias"):
            parameter.data[:] = rng.normal(0, 0.1, parameter.data.shape)
    chrome, embedding = page(image, net, 1280, 900), embed(net, image)
    for norm in ("L1", "L2"):
        chrome.find_element("css selector", f"input[value={norm}] + span").click()
        for x, y in ((0, 0), (shape[1] - 1, shape[0] - 1), (shape[1] // 2, shape[0] // 3)):
            chrome.execute_script(
                "Object.assign(explorer.state, {x: arguments[0], y: arguments[1]})", x, y
            )
            state = assert_agrees(chrome, image, embedding, atol=1e-4)
            assert (state["source"], state["norm"]) == ("learned", norm)


def test_the_reader_goes_before_the_network(page):
    """What is chosen while the page computes stays as it is."""
    image, _ = scene(120, 160, 1)
    net = embedding_network((64, 64), (2, 2), 16)
    for act, source in (("", "learned"), ("form.oninput({target: form.elements.kernel})", "rgb")):
        touch = f"const form = document.getElementById('controls'); {act}"
        chrome = page(image, net, 1280, 900, meanwhile=touch)
        assert assert_agrees(chrome, image, embed(net, image), atol=1e-4)["source"] == source


def test_filtered_pictures_are_the_librarys(page):
    from segaware_np.ops.columns import im2col_forward

    image, _ = scene(40, 56, 3)
    chrome = page(image, None, 1280, 900)
    wait_for_filter(chrome)
    state = assert_agrees(chrome, image, None)
    x = np.moveaxis(image, -1, 0)[None] / 255
    window = Window.same(state["kernel"], dilation=state["dilation"])
    cols, _ = im2col_forward(x, window)
    inside, _ = im2col_forward(np.ones_like(x[:, :1]), window)
    d, _ = distance_forward(x, window, state["norm"], remove_bounds=True)
    mask, _ = normalized_mask_forward(d, state["scale"])
    read = (
        "const c = document.getElementById(arguments[0]);"
        "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    for name, weights in (
        ("plain", inside / inside.sum(2, keepdims=True)),
        ("aware", mask[:, None]),
    ):
        shown = np.reshape(chrome.execute_script(read, name), (40, 56, 4))[..., :3]
        expected = np.moveaxis((cols * weights).sum(2)[0], 0, -1) * 255
        np.testing.assert_allclose(shown, expected, atol=0.51)


@pytest.mark.parametrize("shape", [(120, 160), (160, 107), (60, 240)])
def test_a_projector_shows_everything_at_once(page, shape):
    image, embedding = scene(*shape, 8)
    chrome = page(image, embedding, 1280, 720)
    for beside in ("result", "second", "picture", "embedding"):
        for kind in ("exponential", "normalized"):
            for name in (beside, kind):
                chrome.find_element("css selector", f"input[value={name}] + span").click()
            size = "return document.documentElement.scroll"
            assert chrome.execute_script(f"{size}Height") <= 720
            assert chrome.execute_script(f"{size}Width") <= 1280
    wait_for_filter(chrome)
    keep_screenshot(chrome, f"explorer_projector_{shape[0]}.png")
    box = "const b = document.getElementById(arguments[0]).getBoundingClientRect(); return b.bottom"
    for part in ("picture", "lens-mask", "lens-beside", "plain", "aware", "controls", "strip"):
        assert 0 < chrome.execute_script(box, part) <= 720, part
    large = "return document.getElementById('lens-mask').clientWidth"
    assert chrome.execute_script(large) >= 300


def test_embedded_in_a_page_picture_and_masks_are_seen_at_once(page):
    image, embedding = scene(120, 120, 8)
    chrome = page(image, embedding, 736, 736)
    for part in ("picture", "lens-mask", "lens-beside"):
        bottom = "return document.getElementById(arguments[0]).getBoundingClientRect().bottom"
        assert 0 < chrome.execute_script(bottom, part) <= 736, part
    keep_screenshot(chrome, "explorer_embedded.png")


def test_the_scale_moves_the_large_mask_and_the_result_beside_it(page):
    from selenium.webdriver import Keys

    image, embedding = scene(60, 80, 8)
    chrome = page(image, embedding, 1280, 720)
    read = (
        "return ['lens-mask', 'lens-beside'].map((id) => { const c = document.getElementById(id);"
        "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) })"
    )
    wait_for_filter(chrome)
    before = np.array(chrome.execute_script(read), float)
    chrome.find_element("name", "scale").send_keys(Keys.HOME)
    wait_for_filter(chrome)
    after = np.array(chrome.execute_script(read), float)
    assert (np.abs(after - before).mean(axis=1) > 1).all()


def test_two_pixels_are_compared(page):
    from selenium.webdriver import ActionChains, Keys

    image, embedding = scene(64, 96, 5)
    chrome = page(image, embedding, 1280, 720)
    frame = chrome.find_element("id", "frame")
    actions = ActionChains(chrome).key_down(Keys.SHIFT)
    actions.move_to_element_with_offset(frame, 90, 60).click().key_up(Keys.SHIFT).perform()
    state = chrome.execute_script("return {...explorer.state}")
    assert state["beside"] == "second" and (state["x"], state["y"]) == (48, 32)
    assert state["x2"] > 48 and state["y2"] > 32
    there = {**state, "x": state["x2"], "y": state["y2"]}
    shown = chrome.execute_script("return explorer.beside()")
    np.testing.assert_allclose(shown, library_mask(embedding, there), atol=1e-2)
    assert chrome.find_element("id", "readout").text.startswith("A (48, 32) and B (")
    chrome.find_element("id", "swap").click()
    assert chrome.execute_script("return [explorer.state.x2, explorer.state.y2]") == [48, 32]
    shown = chrome.execute_script("return explorer.beside()")
    np.testing.assert_allclose(shown, library_mask(embedding, state), atol=1e-2)


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize(("x", "y"), [(20, 16), (0, 1)])
def test_gradients_are_the_librarys(page, norm, x, y):
    """dy/dx and dy/de of one output pixel, by the library's own backward passes."""
    from segaware_np import ops

    image, _ = scene(32, 40, 3)
    chrome = page(image, None, 1280, 720)
    choose = "Object.assign(explorer.state, arguments[0]); return explorer.beside()"
    state = {"x": x, "y": y, "norm": norm, "scale": 6.0, "kernel": 7, "dilation": 2}
    shown = {
        name: np.array(chrome.execute_script(choose, {**state, "beside": name}))
        for name in ("picture", "embedding")
    }
    colours = np.moveaxis(image, -1, 0)[None].astype(np.float32).astype(np.float64) / 255
    window = Window.same(7, dilation=2)
    d, d_cache = ops.distance_forward(colours, window, norm, remove_bounds=True)
    m, m_cache = ops.normalized_mask_forward(d, 6.0)
    out, cache = ops.masked_sum_forward(colours, m, window)
    only = np.zeros_like(out)
    only[:, :, y, x] = 1
    dx, dm = ops.masked_sum_backward(only, cache)
    de = ops.distance_backward(ops.normalized_mask_backward(dm, m_cache)[0], d_cache)
    for name, gradient in (("picture", dx[0, 0]), ("embedding", np.linalg.norm(de[0], axis=0))):
        for (i, j), value in zip(window.offsets, shown[name], strict=True):
            inside = 0 <= y + i < 32 and 0 <= x + j < 40
            expected = gradient[y + i, x + j] if inside else 0
            assert value == pytest.approx(expected, abs=2e-5), (name, i, j)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (400, 800), (760, 820), (1280, 900)])
def test_page_fits_its_screen(page, width, height):
    image, embedding = scene(120, 160, 8)
    chrome = page(image, embedding, width, height)
    wait_for_filter(chrome)
    keep_screenshot(chrome, f"explorer_{width}.png")
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    covered = (
        "return document.getElementById('overlay').getContext('2d')"
        ".getImageData(0, 0, 2000, 2000).data.some((value) => value > 0)"
    )
    assert chrome.execute_script(covered)


def test_touch_moves_the_pixel(page):
    image, embedding = scene(64, 96, 4)
    chrome = page(image, embedding, 390, 844)
    box = chrome.execute_script("return document.getElementById('frame').getBoundingClientRect()")
    spot = {"x": box["x"] + 0.26 * box["width"], "y": box["y"] + 0.76 * box["height"]}
    for kind, points in (("touchStart", [spot]), ("touchEnd", [])):
        chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    state = assert_agrees(chrome, image, embedding)
    assert (state["x"], state["y"]) == (int(0.26 * 96), int(0.76 * 64))


def test_a_link_names_a_view(page):
    image, embedding = scene(64, 96, 4)
    chrome = page(image, embedding, 1280, 900)
    link = "#x=70&y=9&source=rgb&norm=L2&kind=normalized&kernel=7&dilation=3&scale=12.5"
    chrome.execute_script("location.hash = arguments[0]; location.reload()", link)
    from selenium.webdriver.support.wait import WebDriverWait

    at = "return window.explorer && document.documentElement.dataset.ready && explorer.state.x"
    WebDriverWait(chrome, 30).until(lambda each: each.execute_script(at) == 70)
    state = assert_agrees(chrome, image, embedding)
    assert state == {
        "x": 70, "y": 9, "source": "rgb", "norm": "L2", "kind": "normalized",
        "kernel": 7, "dilation": 3, "scale": 12.5, "beside": "result", "x2": 24, "y2": 32,
    }  # fmt: skip
