"""Datasets, augmentation, loader and drawn scenes."""

import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segaware_np.data import (
    RGB_MEAN,
    Augmentation,
    ImageFolder,
    Loader,
    PairedFolders,
    PairList,
    SyntheticScenes,
    VOCFolder,
)
from segaware_np.data.loader import read_ahead
from segaware_np.files import FormatError
from segaware_np.images import write_image, write_labels

SEEDS = st.integers(0, 2**32 - 1)


class Numbered:
    """Image and labels both say which item they are."""

    def __init__(self, count, size=(4, 6)):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((*self.size, 3), index, np.uint8), np.full(self.size, index, np.int32)

    def name(self, index):
        return str(index)


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Pictures and labels a, b, c in the layout of PASCAL VOC."""
    pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    for index, name in enumerate("abc"):
        image, labels = Numbered(3)[index]
        write_image(tmp_path / "JPEGImages" / f"{name}.png", image)
        write_labels(tmp_path / "SegmentationClass" / f"{name}.png", labels)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\nc 1\n")
    return tmp_path


def contents(dataset):
    """Name, image value, label value of each item."""
    items = [(dataset.name(i), *dataset[i]) for i in range(len(dataset))]
    return [
        (name, int(image[0, 0, 0]), labels if labels is None else int(labels[0, 0]))
        for name, image, labels in items
    ]


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("I/b.png S/b.png\nI/c.png S/c.png", ""),
        ("/I/b.png /S/b.png\n\n/I/c.png  /S/c.png\n", "."),
        ("{}/I/b.png {}/S/b.png\r\n{}/I/c.png\t{}/S/c.png", ""),
        ("\ufeffI/b.png S/b.png\n  I/c.png S/c.png  ", "."),
    ],
    ids=["relative", "published", "absolute, tabs", "byte order mark"],
)
def test_pair_lists(folder, text, root):
    path = folder / "list.txt"
    text = text.replace("I/", "JPEGImages/").replace("S/", "SegmentationClass/")
    path.write_bytes(text.replace("{}", str(folder)).encode())
    dataset = PairList(path, folder / root if root else None)
    assert contents(dataset) == [("b", 1, 1), ("c", 2, 2)]


def test_pair_list_without_labels_and_with_spaces(folder):
    (folder / "JPEGImages/a.png").rename(folder / "JPEGImages/my a.png")
    (folder / "list.txt").write_text("JPEGImages/my a.png\t\nJPEGImages/b.png\n")
    assert contents(PairList(folder / "list.txt")) == [("my a", 0, None), ("b", 1, None)]
    (folder / "list.txt").write_text("JPEGImages/my a.png\n")
    with pytest.raises(FileNotFoundError, match=r"list\.txt:1: no such file: .*my"):
        PairList(folder / "list.txt")
    (folder / "list.txt").write_text("JPEGImages/my a.png\tSegmentationClass/a.png\n")
    assert contents(PairList(folder / "list.txt")) == [("my a", 0, 0)]
    (folder / "list.txt").write_text("JPEGImages/b.png\n")
    assert contents(PairList(folder / "list.txt")) == [("b", 1, None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lists_as_windows_programs_write_them(folder, encoding):
    """With a byte-order mark and carriage returns, names beyond ASCII and spaces in them."""
    (folder / "JPEGImages/a.png").rename(folder / "JPEGImages/grün a.png")
    mark = "\ufeff" if encoding[-2:] in ("le", "be") else ""
    text = mark + "JPEGImages/grün a.png\tSegmentationClass/a.png\r\n"
    (folder / "list.txt").write_bytes(text.encode(encoding))
    assert contents(PairList(folder / "list.txt")) == [("grün a", 0, 0)]
    for name in ("JPEGImages", "SegmentationClass"):
        (folder / name / "b.png").rename(folder / name / "b d.png")
    (folder / "ImageSets/Segmentation/train.txt").write_bytes((mark + "b d\r\n").encode(encoding))
    assert contents(VOCFolder(folder, "train")) == [("b d", 1, 1)]


PAIR = "JPEGImages/a.png SegmentationClass/a.png\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (PAIR + "\nJPEGImages/x.png SegmentationClass/a.png", FileNotFoundError, r":3: .*x\.png"),
        (PAIR + "JPEGImages/b.png SegmentationClass/y.png", FileNotFoundError, r":2: .*y\.png"),
        ("JPEGImages SegmentationClass", FileNotFoundError, ":1: no such file: .*JPEGImages"),
        (PAIR + "a b c", FormatError, ":2: expected 'image label' or 'image', got 'a b c'"),
        (PAIR + "JPEGImages/b.png", FormatError, ":2: expected all lines with labels or none"),
        ("\n \n", FormatError, ": expected at least one line"),
        ("", FormatError, ": expected at least one line"),
    ],
)
def test_bad_pair_lists_are_named_with_the_line(folder, text, error, message):
    (folder / "list.txt").write_text(text)
    with pytest.raises(error, match=rf"list\.txt{message}"):
        PairList(folder / "list.txt")


def test_other_bad_files(folder):
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        PairList(folder / "absent.txt")
    with pytest.raises(FormatError, match=r"a\.png: expected text in UTF-8"):
        PairList(folder / "JPEGImages/a.png")
    with pytest.raises(FileNotFoundError, match=r"val\.txt"):
        VOCFolder(folder, "val")
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\nz\n")
    with pytest.raises(FileNotFoundError, match=r"val\.txt:2: no such file: .*z\.jpg"):
        VOCFolder(folder, "val")
    (folder / "SegmentationClass/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt:1: no such file: .*Class/a\.png"):
        VOCFolder(folder, "train")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no image .* in .*ImageSets"):
        ImageFolder(folder / "ImageSets")


def test_labels_of_another_size_are_refused(folder):
    write_labels(folder / "SegmentationClass/a.png", np.zeros((4, 5), np.int32))
    dataset = VOCFolder(folder, "train")
    with pytest.raises(FormatError, match=r"Class/a\.png: expected \(4, 6\).*got \(4, 5\)"):
        dataset[0]


def test_voc_and_image_folders(folder):
    assert contents(VOCFolder(folder, "train")) == [("a", 0, 0), ("c", 2, 2)]
    assert contents(VOCFolder(folder, "train", labels=None))[1] == ("c", 2, None)
    assert contents(ImageFolder(folder / "JPEGImages")) == [
        ("a", 0, None),
        ("b", 1, None),
        ("c", 2, None),
    ]
    batch = Loader(ImageFolder(folder / "JPEGImages"), 2).batch(0)
    assert set(batch) == {"image"}


def test_voc_folders_of_other_cameras(folder):
    """Suffixes in capitals, names with spaces, dots and folders, lists of one class's members."""
    names = {"a": "IMG 1", "b": "2. b 1", "c": "sub/c.d"}
    (folder / "JPEGImages/sub").mkdir()
    (folder / "SegmentationClass/sub").mkdir()
    for old, new in names.items():
        (folder / f"JPEGImages/{old}.png").rename(folder / f"JPEGImages/{new}.PNG")
        (folder / f"SegmentationClass/{old}.png").rename(folder / f"SegmentationClass/{new}.Png")
    (folder / "JPEGImages/sub/C.d.png").write_text("another name")
    listed = folder / "ImageSets/Segmentation/train.txt"
    listed.write_text("IMG 1\n2. b 1\nsub/c.d\nIMG 1  1\n2. b 1 -1\nsub/c.d\t0\n")
    assert contents(VOCFolder(folder, "train")) == 2 * [
        ("IMG 1", 0, 0), ("2. b 1", 1, 1), ("c.d", 2, 2)
    ]


def test_the_first_suffix_wins_where_two_images_have_one_name(folder):
    write_image(folder / "JPEGImages/a.bmp", np.full((4, 6, 3), 99, np.uint8))
    assert contents(VOCFolder(folder, "train"))[0] == ("a", 0, 0)  # .png, then .bmp
    write_image(folder / "JPEGImages/a.JPG", np.full((4, 6, 3), 99, np.uint8))
    assert contents(VOCFolder(folder, "train"))[0] == ("a", 99, 0)


def test_what_is_no_picture_among_the_pictures(folder):
    pictures = folder / "JPEGImages"
    (pictures / "._a.jpg").write_bytes(b"\0\5\x16\7")
    (pictures / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(pictures / "pipe.png")
    assert [path.name for path in ImageFolder(pictures).paths] == ["a.png", "b.png", "c.png"]
    (pictures / "d.png").symlink_to(pictures / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"d\.png"):
        ImageFolder(pictures)[3]


# --- augmentation ------------------------------------------------------------------------------


def augment_by_hand(augmentation, image, labels, rng):
    """The same draws, then every pixel by itself."""
    low, high = augmentation.scale
    factor = math.exp(rng.uniform(math.log(low), math.log(high)))
    scaled = [max(1, round(side * factor)) for side in labels.shape]
    size = augmentation.crop or scaled
    start = [rng.integers(max(s - c, 0) + 1) for s, c in zip(scaled, size, strict=True)]
    mirrored = augmentation.mirror and rng.random() < 0.5
    out = np.zeros((3, *size))
    filled = np.full(size, augmentation.ignore_label)
    for y in range(min(size[0], scaled[0])):
        shown = min(size[1], scaled[1])
        for x in range(shown):
            at = [y + start[0], (shown - 1 - x if mirrored else x) + start[1]]
            source = [
                min(max((k + 0.5) * side / s - 0.5, 0), side - 1)
                for k, side, s in zip(at, labels.shape, scaled, strict=True)
            ]
            filled[y, x] = labels[tuple(math.floor(s + 0.5) for s in source)]
            for v in range(labels.shape[0]):
                for u in range(labels.shape[1]):
                    near = max(0, 1 - abs(source[0] - v)) * max(0, 1 - abs(source[1] - u))
                    out[:, y, x] += near * (image[v, u] - np.array(augmentation.mean))
    return out[::-1] if augmentation.order == "bgr" else out, filled


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    crop=st.none() | st.tuples(st.integers(1, 8), st.integers(1, 8)),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (1.5, 1.5)]),
    mirror=st.booleans(),
    order=st.sampled_from(["rgb", "bgr"]),
)
def test_augmentation_is_its_formula(seed, height, width, crop, scale, mirror, order):
    data = np.random.default_rng(seed)
    image = data.integers(0, 256, (width, height, 3)).astype(np.uint8).transpose(1, 0, 2)
    labels = data.integers(0, 5, (height, width))
    augmentation = Augmentation(crop, scale, mirror, order=order, ignore_label=11)
    got, got_labels = augmentation(image, labels, np.random.default_rng(seed))
    want, want_labels = augment_by_hand(augmentation, image, labels, np.random.default_rng(seed))
    assert got.dtype == np.float32 and got_labels.dtype == np.int32
    np.testing.assert_allclose(got, want, atol=1e-3)
    np.testing.assert_array_equal(got_labels, want_labels)
    alone, none = augmentation(image, None, np.random.default_rng(seed))
    assert none is None
    np.testing.assert_array_equal(alone, got)


def test_without_options_only_the_mean_is_subtracted():
    image, labels = SyntheticScenes(1, size=(7, 9))[0]
    got, got_labels = Augmentation()(image, labels, np.random.default_rng(0))
    mean = np.array(RGB_MEAN, np.float32)
    np.testing.assert_array_equal(got, (image - mean).transpose(2, 0, 1))
    np.testing.assert_array_equal(got_labels, labels)


def test_a_crop_beyond_the_picture_is_mean_and_ignore_label():
    image, labels = Numbered(1)[0]
    got, got_labels = Augmentation(8, ignore_label=11)(image, labels, np.random.default_rng(0))
    assert got.shape == (3, 8, 8) and got_labels.shape == (8, 8)
    inside = np.zeros((8, 8), bool)
    inside[:4, :6] = True
    assert not got[:, ~inside].any() and got[:, inside].all()
    assert (got_labels[~inside] == 11).all() and not got_labels[inside].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0}, "crop: .*got 0"),
        ({"crop": (4, -1)}, r"crop: .*got \(4, -1\)"),
        ({"crop": (4, 4, 4)}, "crop"),
        ({"scale": (2, 1)}, r"scale: .*got \(2, 1\)"),
        ({"scale": (0, 1)}, "scale"),
        ({"scale": (math.nan, 1)}, "scale"),
        ({"mean": (1, 2)}, "mean"),
        ({"mean": (1, 2, math.inf)}, "mean"),
        ({"order": "gbr"}, "order: .*'gbr'"),
    ],
)
def test_bad_augmentations(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_augmentation_checks_its_arrays():
    image, labels = Numbered(1)[0]
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"image: .*\(4, 6\)"):
        Augmentation()(image[..., 0], labels, rng)
    with pytest.raises(ValueError, match=r"labels: .*\(4, 6\), got \(3, 6\)"):
        Augmentation()(image, labels[1:], rng)
    with pytest.raises(TypeError, match=r"labels: .*float64"):
        Augmentation()(image, labels * 1.0, rng)


# --- loader ------------------------------------------------------------------------------------

VARIED = Augmentation(crop=(16, 20), scale=(0.7, 1.4), mirror=True)


def same(first, second):
    return all(np.array_equal(first[key], second[key]) for key in {*first, *second})


def test_a_batch_depends_on_seed_and_number_alone():
    scenes = SyntheticScenes(5, size=(20, 24))
    one, other = (Loader(scenes, 2, VARIED, seed=3) for _ in range(2))
    forward = [one.batch(i) for i in range(6)]
    backward = [other.batch(i) for i in reversed(range(6))][::-1]
    assert all(map(same, forward, backward))
    assert not same(forward[0], Loader(scenes, 2, VARIED, seed=4).batch(0))
    again = Loader(SyntheticScenes(1, size=(20, 24)), 1, VARIED)  # one scene, seen differently
    assert not same(again.batch(0), again.batch(1))
    image, label = forward[0]["image"], forward[0]["label"]
    assert (image.shape, image.dtype) == ((2, 3, 16, 20), np.float32)
    assert (label.shape, label.dtype) == ((2, 16, 20), np.int32)


@given(count=st.integers(1, 7), batch=st.integers(1, 9), seed=SEEDS)
def test_every_epoch_shows_everything_once(count, batch, seed):
    loader = Loader(Numbered(count), batch, seed=seed)
    stream = np.concatenate([loader.batch(i)["label"][:, 0, 0] for i in range(count)])
    epochs = stream.reshape(batch, count)  # count batches are batch epochs
    assert (np.sort(epochs, axis=1) == np.arange(count)).all()
    plain = Loader(Numbered(count), batch, seed=seed, shuffle=False)
    assert plain.batch(1)["label"][:, 0, 0].tolist() == [
        i % count for i in range(batch, 2 * batch)
    ]


def test_epochs_differ_in_order():
    loader = Loader(Numbered(30), 30)
    assert not same(loader.batch(0), loader.batch(1))


def test_an_image_that_is_none_is_named():
    class Odd(Numbered):
        def __getitem__(self, index):
            image, labels = super().__getitem__(index)
            return image, labels[:-1] if index == 2 else labels

    loader = Loader(Odd(4), 1, shuffle=False)
    assert loader.batch(1)
    with pytest.raises(ValueError, match=r"^dataset\[2\]: labels: expected shape"):
        loader.batch(2)


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    seed, drawn, fresh = 123456, [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda key: drawn.append(key) or fresh(key))
    loader = Loader(Numbered(7), 3, seed=seed)
    numbers = (0, 1, 2, 3, 2, 4)
    stream = [loader.batch(i)["label"][:, 0, 0].tolist() for i in numbers]
    assert [key for key in drawn if key[1] == 0] == [(seed, 0, epoch) for epoch in (0, 1, 2)]
    orders = np.concatenate([fresh((seed, 0, epoch)).permutation(7) for epoch in range(3)])
    assert stream == [orders[3 * i : 3 * i + 3].tolist() for i in numbers]
    loader.seed += 1
    changed = loader.batch(0)["label"][:, 0, 0]
    assert changed.tolist() == fresh((seed + 1, 0, 0)).permutation(7)[:3].tolist()


def test_iteration_yields_the_batches_and_resumes_from_its_state():
    loader = Loader(SyntheticScenes(5, size=(20, 24)), 2, VARIED)
    seen = [batch for _, batch in zip(range(4), loader, strict=False)]
    assert loader.state == 4
    assert all(same(batch, loader.batch(i)) for i, batch in enumerate(seen))
    resumed = Loader(loader.dataset, 2, VARIED)
    resumed.state = loader.state
    assert same(next(iter(resumed)), loader.batch(4))
    assert resumed.state == 5


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "segaware-reader"]


def test_the_reader_ends_with_the_iterator():
    for batch in Loader(Numbered(3), 1):
        assert batch["image"].shape == (1, 3, 4, 6)
        break
    assert not readers()
    unfinished = iter(Loader(Numbered(3), 1))
    next(unfinished)
    assert len(readers()) == 1
    unfinished.close()
    assert not readers()


@pytest.mark.parametrize("ahead", [1, 3])
def test_the_reader_does_not_run_away(ahead):
    read = []
    batches = read_ahead(lambda i: read.append(i) or i, start=5, ahead=ahead)
    assert [next(batches), next(batches)] == [5, 6]
    batches.close()
    assert read == list(range(5, 5 + len(read))) and 2 <= len(read) <= 2 + ahead


def test_the_readers_error_is_raised_in_its_turn():
    class Broken(Numbered):
        def __getitem__(self, index):
            if index == 2:
                raise FormatError("c.png: damaged")
            return super().__getitem__(index)

    loader = Loader(Broken(5), 1, shuffle=False)
    seen = []
    with pytest.raises(FormatError, match=r"c\.png: damaged"):
        seen.extend(int(batch["label"][0, 0, 0]) for batch in loader)
    assert loader.state == 2 and not readers()


def test_pictures_of_different_sizes_need_a_crop():
    class Growing(Numbered):
        def __getitem__(self, index):
            return Numbered(self.count, (4, 5 + index))[index]

    with pytest.raises(ValueError, match=r"dataset: .*one size in batch 0.*\(4, 5\), \(4, 6\)"):
        Loader(Growing(2), 2).batch(0)
    assert Loader(Growing(2), 2, Augmentation(crop=4)).batch(0)["image"].shape == (2, 3, 4, 4)
    assert Loader(Growing(2), 1, shuffle=False).batch(1)["image"].shape == (1, 3, 4, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Loader(Numbered(0), 1), "dataset: expected at least one image"),
        (lambda: Loader(Numbered(1), 0), "batch: .*got 0"),
        (lambda: Loader(Numbered(1), 1, seed=-1), "seed: .*got -1"),
        (lambda: Loader(Numbered(1), 1, ahead=0), "ahead: .*got 0"),
        (lambda: Loader(Numbered(1), 1).batch(-1), "index: .*got -1"),
        (lambda: SyntheticScenes(0), "count: .*got 0"),
        (lambda: SyntheticScenes(1, (0, 4)), r"size: .*got \(0, 4\)"),
        (lambda: SyntheticScenes(1, (4,)), "size"),
        (lambda: SyntheticScenes(1, seed=-1), "seed: .*got -1"),
    ],
)
def test_bad_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- drawn scenes ------------------------------------------------------------------------------


def test_a_scene_depends_on_seed_and_number_alone():
    few, many = SyntheticScenes(3, (40, 50), seed=7), SyntheticScenes(100, (40, 50), seed=7)
    assert all(np.array_equal(a, b) for a, b in zip(few[2], many[2], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(few[-1], few[2], strict=True))
    assert not np.array_equal(few[1][0], few[2][0])
    assert not np.array_equal(few[1][0], SyntheticScenes(3, (40, 50), seed=8)[1][0])
    assert few.name(2) == "scene00002" and len(list(few)) == 3
    with pytest.raises(IndexError, match="expected below 3, got 3"):
        few[3]


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 2), (64, 48)])
def test_scenes_of_any_size(size):
    image, labels = SyntheticScenes(1, size)[0]
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.int32)


def test_every_class_has_its_share():
    scenes = SyntheticScenes(40, (48, 48))
    share = np.bincount(np.concatenate([labels.ravel() for _, labels in scenes]), minlength=6)
    share = share / share.sum()
    assert len(share) == len(scenes.class_names) == 6
    assert 0.4 < share[0] < 0.8 and (share[1:] > 0.03).all()


def test_labels_lie_exactly_on_what_is_drawn():
    """A disc, placed: its label is where its circle is, its colour covers just that."""
    from segaware_np.data import synthetic

    def disc(u, v, rng):
        r = np.hypot(u, v)
        return synthetic.Form(r - 0.8, np.full(r.shape, 0.5, np.float32))

    image, labels = np.zeros((60, 70, 3), np.float32), np.zeros((60, 70), np.int32)
    synthetic._place(disc, 20.0, 0.3, image, labels, 4, np.random.default_rng(5))
    y, x = np.random.default_rng(5).uniform(0, (60, 70))
    rows, columns = np.ogrid[:60, :70]
    distance = np.hypot(rows - y, columns - x) - 16
    np.testing.assert_array_equal(labels == 4, distance < 0)
    assert not image[distance > 0.51].any() and image[distance < 0.49].all()


# --- real images -------------------------------------------------------------------------------


@pytest.mark.skipif("SEGAWARE_DATA" not in os.environ, reason="SEGAWARE_DATA is not set")
def test_real_lists_read():
    pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
    root = Path(os.environ["SEGAWARE_DATA"])
    streets = PairList(root / "camvid_half" / "train.txt")
    image, labels = streets[0]
    assert len(streets) == 367 and image.shape == (180, 240, 3)
    assert set(np.unique(labels)) <= set(range(12))
    berkeley = PairList(root / "bsds500" / "train.txt")
    image, labels = berkeley[0]
    assert len(berkeley) == 200 and labels.max() > 1 and labels.shape == image.shape[:2]
    batch = Loader(berkeley, 3, Augmentation(crop=400, scale=(0.5, 1), mirror=True)).batch(0)
    assert batch["image"].shape == (3, 3, 400, 400)


def folders(tmp_path, names="abcdefghij"):
    pytest.importorskip("PIL", reason="reading images needs the extra 'images'")
    for folder in ("photos", "maps"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(names):
        write_image(tmp_path / f"photos/{name}.png", np.full((4, 6, 3), number, np.uint8))
        write_labels(tmp_path / f"maps/{name}.png", np.full((4, 6), number))
    return tmp_path / "photos", tmp_path / "maps"


def test_folders_are_paired_by_name_and_a_share_is_held_out(tmp_path):
    photos, maps = folders(tmp_path)
    write_labels(maps / "no_photo.png", np.ones((4, 6), int))
    parts = {s: PairedFolders(photos, maps, s, 0.3, 5) for s in ("train", "val", "all")}
    names = {s: [part.name(i) for i in range(len(part))] for s, part in parts.items()}
    assert names["all"] == list("abcdefghij") and len(names["val"]) == 3
    assert sorted(names["train"] + names["val"]) == names["all"]
    for part in parts.values():
        for image, labels in (part[i] for i in range(len(part))):
            assert (image[..., 0] == labels).all()
    other = PairedFolders(photos, maps, "val", 0.3, 6)
    assert [other.name(i) for i in range(3)] != names["val"]
    again = PairedFolders(photos, maps, "val", 0.3, 5)
    assert [again.name(i) for i in range(3)] == names["val"]


@pytest.mark.parametrize(("share", "held"), [(0.01, 1), (0.5, 1), (0.99, 1)])
def test_of_two_images_one_is_held_out(tmp_path, share, held):
    photos, maps = folders(tmp_path, "ab")
    assert len(PairedFolders(photos, maps, "val", share)) == held


def test_folders_that_do_not_fit_are_refused_by_name(tmp_path):
    photos, maps = folders(tmp_path, "a")
    with pytest.raises(ValueError, match="expected at least 2 to hold one out, got 1"):
        PairedFolders(photos, maps)
    with pytest.raises(ValueError, match=r"a.png is an image of its own"):
        PairedFolders(photos, photos, "all")
    with pytest.raises(ValueError, match="hold_out: expected a share between 0 and 1, got 1"):
        PairedFolders(photos, maps, hold_out=1)
    with pytest.raises(ValueError, match="split: expected 'train', 'val' or 'all', got 'test'"):
        PairedFolders(photos, maps, "test")
    write_image(photos / "z.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"z.png: no such file: .*maps/z.png"):
        PairedFolders(photos, maps)
