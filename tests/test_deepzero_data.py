"""Data sets: what is read is what was written, the same split everywhere, and clear refusals."""

import gzip
import io
import json
import lzma
import re
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from zoo.deepzero.data.batches import batch_rows, crop_and_flip
from zoo.deepzero.data.cifar import CLASSES
from zoo.deepzero.data.dataset import load
from zoo.errors import InputError

RNG = np.random.default_rng(1)


def philox_words(seed, n, number, purpose):
    """The first n words of Philox4x64-10 after its counter's first value, from the paper."""
    words = []
    for block in range(1, n // 4 + 2):
        c, k = [block, 0, number, purpose], [seed, 0]
        for _ in range(10):
            p, q = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(q >> 64) ^ c[1] ^ k[0], q % 2**64, (p >> 64) ^ c[3] ^ k[1], p % 2**64]
            k = [(k[0] + 0x9E3779B97F4A7C15) % 2**64, (k[1] + 0xBB67AE8584CAA73B) % 2**64]
        words += c
    return words[:n]


def idx_bytes(x):
    sizes = b"".join(size.to_bytes(4, "big") for size in x.shape)
    return bytes([0, 0, 8, x.ndim]) + sizes + x.tobytes()


def write_idx(folder, part, n, prefix="", infix="-idx{}-ubyte", ending=""):
    """Random images and labels in a pair of files."""
    x = RNG.integers(0, 256, (n, 5, 4)).astype(np.uint8)
    y = (np.arange(n) % 3).astype(np.uint8)
    for what, array in (("images", x), ("labels", y)):
        name = f"{prefix}{part}-{what}{infix.format(array.ndim)}{ending}"
        content = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(content) if ending else content)
    return x, y


def encoded(pixels, kind="png", mode=None):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def write_tar(path, files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(file.getvalue()))


def write_folder(path, files):
    for name, content in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def tree(classes, train=3, test=1, shape=(6, 5, 3)):
    """Names and pixels of images in folders of classes."""
    return {
        f"{part}/{label}/{k}.png": RNG.integers(0, 256, shape).astype(np.uint8)
        for part, count in (("train", train), ("test", test))
        for label in classes
        for k in range(count)
    }


def cifar_records(n):
    return RNG.integers(0, 256, (n, 3073)).astype(np.uint8) % np.r_[10, np.full(3072, 256)]


def write_cifar(folder, n=20):
    batches = {f"data_batch_{k}.bin": cifar_records(n) for k in range(1, 6)}
    batches["test_batch.bin"] = cifar_records(n)
    folder.mkdir()
    for name, records in batches.items():
        records[:10, 0] = range(10)
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
    return batches


def test_digits():
    data = load("digits")
    assert (data.name, data.shape, data.classes) == ("digits", (1, 8, 8), tuple("0123456789"))
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    assert (len(data.x_train), len(data.x_test)) == (1347, 450)
    sklearn = pytest.importorskip("sklearn.datasets")
    images, labels = sklearn.load_digits(return_X_y=True)
    x = np.concatenate([data.x_train, data.x_test]).reshape(-1, 64)
    y = np.concatenate([data.y_train, data.y_test])
    ours, theirs = (np.column_stack(pair) for pair in ((x, y), (images, labels)))
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    rows, held = split(np.arange(1797), test_size=450, stratify=labels, random_state=0)
    assert np.array_equal(data.x_test.reshape(-1, 64), images[np.sort(held)])
    assert np.array_equal(data.y_train, labels[np.sort(rows)])

    rows = np.array([5, 0, 5])
    inputs = data.inputs("test", rows)
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs, data.x_test[rows] / 16)
    assert (data.inputs("train", np.arange(1347)) == 0).sum() == (data.x_train == 0).sum()
    # of every machine and every version
    assert data.digest == "54a83c517f9ea5fd8e22a11430372040c5122410562f603fc5d2a832cbb32f46"


def test_split_is_by_the_lowest_words_of_each_class(tmp_path):
    y = np.repeat([0, 1, 2], [20, 15, 6])[RNG.permutation(41)]
    np.savez(tmp_path / "x.npz", x=np.arange(41.0)[:, None], y=y)
    for split in (0, 3):
        data = load(str(tmp_path / "x.npz"), split=split)
        words = philox_words(split, 41, 0, 33)
        held = set()
        for label, quota in ((0, 4), (1, 3), (2, 1)):  # of 8: 3.9, 2.9 and 1.2
            rows = np.flatnonzero(y == label)
            held |= set(sorted(rows, key=lambda row: words[row])[:quota])
        assert data.x_test.ravel().tolist() == sorted(held)
        assert data.x_train.ravel().tolist() == sorted(set(range(41)) - held)
        assert np.array_equal(data.y_test, y[sorted(held)])
    assert load(str(tmp_path / "x.npz")).digest != data.digest


def test_a_class_keeps_a_sample_to_train_on(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.arange(12.0)[:, None], y=[0] * 6 + [1, 2, 3, 4, 5, 6])
    data = load(str(tmp_path / "x.npz"))
    assert set(data.y_train) == set(range(7))
    assert set(data.y_test) == {0}


@pytest.mark.parametrize(
    "form",
    [{}, {"ending": ".gz"}, {"infix": ".idx{}-ubyte"}, {"prefix": "mnist_", "ending": ".gz"}],
)
def test_mnist(tmp_path, monkeypatch, form):
    x, y = write_idx(tmp_path, "train", 12, **form)
    data = load("mnist", str(tmp_path))
    assert (data.name, len(data.x_train), len(data.x_test)) == ("mnist-train", 10, 2)
    x_test, y_test = write_idx(tmp_path, "t10k", 7, **form)
    data = load("mnist", str(tmp_path))
    assert (data.name, data.shape, data.classes) == ("mnist", (1, 5, 4), ("0", "1", "2"))
    assert np.array_equal(data.x_train[:, 0], x)
    assert np.array_equal(data.x_test[:, 0], x_test)
    assert np.array_equal(data.y_train, y)
    assert np.array_equal(data.y_test, y_test)
    inputs = data.inputs("test", np.array([3]))
    assert np.allclose(inputs[0, 0], x_test[3] / 255, rtol=1e-6, atol=0)
    assert inputs.max() <= 1

    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert load("mnist").describe() == data.describe()
    monkeypatch.delenv("ZOO_DATA")
    monkeypatch.chdir(tmp_path)
    assert load("mnist").digest == data.digest
    path = next(path for path in tmp_path.iterdir() if "train-images" in path.name)
    assert load(path.name).digest == data.digest
    path.unlink()
    assert load("mnist").name == "mnist-t10k"


def test_idx_of_any_name(tmp_path):
    x, _ = write_idx(tmp_path, "some", 20)
    data = load(str(tmp_path / "some-images-idx3-ubyte"))
    assert (len(data.x_train), len(data.x_test)) == (16, 4)
    assert data.x_train.sum() + data.x_test.sum() == x.sum(dtype=int)


def test_refusals_of_idx(tmp_path):
    folder = str(tmp_path)

    def refused(message):
        with pytest.raises(InputError, match=message) as error:
            load("mnist", folder)
        assert "\n" not in str(error.value)

    refused("has neither train-images-idx3-ubyte nor t10k-images-idx3-ubyte")
    write_idx(tmp_path, "train", 9)
    images, labels = (tmp_path / f"train-{w}-ubyte" for w in ("images-idx3", "labels-idx1"))
    good = images.read_bytes()
    images.write_bytes(good[:-1])
    refused("train-images-idx3-ubyte is incomplete or damaged: 9 x 5 x 4 images take 196 bytes, ")
    images.write_bytes(good[:9])
    refused("incomplete")
    images.write_bytes(labels.read_bytes())
    refused("train-images-idx3-ubyte is no IDX file of images: it must begin with 00000803, got")
    images.write_bytes(b"")
    refused("got nothing")
    images.write_bytes(good)
    labels.write_bytes(idx_bytes(np.zeros(8, np.uint8)))
    refused("there are 9 samples, but 8 labels")
    labels.unlink()
    refused("has no labels beside it")
    images.write_bytes(idx_bytes(np.zeros((0, 5, 4), np.uint8)))
    labels.write_bytes(idx_bytes(np.zeros(0, np.uint8)))
    refused("there are no samples")
    write_idx(tmp_path, "train", 9)
    write_idx(tmp_path, "t10k", 9, "fashion_")
    refused("several data sets: give one of fashion_t10k-images-idx3-ubyte, train-images-idx3")
    images.unlink()
    zipped = gzip.compress(good)
    for damaged in (zipped[:-9], zipped[:40] + bytes(20) + zipped[60:]):
        images.with_name(f"{images.name}.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged or incomplete: "):
            load(f"{images}.gz")


@pytest.mark.parametrize("tarred", [False, True])
def test_cifar10_binary(tmp_path, tarred):
    batches = write_cifar(tmp_path / "cifar-10-batches-bin")
    if tarred:
        (tmp_path / "t").mkdir()
        with tarfile.open(tmp_path / "t" / "cifar-10-binary.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    here = tmp_path / "t" if tarred else tmp_path
    data = load("cifar10", str(here))
    assert (data.name, data.shape, data.classes) == ("cifar10", (3, 32, 32), CLASSES)
    train = np.concatenate([batches[f"data_batch_{k}.bin"] for k in range(1, 6)])
    assert np.array_equal(data.x_train.reshape(-1, 3072), train[:, 1:])
    assert np.array_equal(data.y_train, train[:, 0])
    assert np.array_equal(data.y_test, batches["test_batch.bin"][:, 0])
    own = "cifar-10-binary.tar.gz" if tarred else "cifar-10-batches-bin"
    assert load(str(here / own)).describe() == data.describe()


def test_refusals_of_cifar10(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    good = batch.read_bytes()
    for content, message in (
        (good[:-1], "data_batch_3.bin is incomplete or damaged: it must have 3073 bytes an image"),
        (b"", "incomplete"),
        (b"\x0b" + good[1:], "labels must be from 0 to 9"),
    ):
        batch.write_bytes(content)
        with pytest.raises(InputError, match=message):
            load("cifar10", str(tmp_path))
    batch.unlink()
    with pytest.raises(InputError, match=r"cifar-10-batches-bin lacks data_batch_3\.bin$"):
        load("cifar10", str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "cifar-10-python.tar.gz").touch()
    with pytest.raises(InputError, match=r"has neither cifar-10-batches-bin nor .* pickled"):
        load("cifar10", str(other))
    with pytest.raises(InputError, match="cifar10: there is no folder"):
        load("cifar10", str(tmp_path / "nowhere"))
    write_tar(other / "cifar10.tar", [(k, encoded(v)) for k, v in tree(CLASSES).items()])
    with pytest.raises(InputError, match="is not CIFAR-10, which has"):
        load("cifar10", str(other))


def test_cifar10_images(tmp_path):
    pixels = tree(CLASSES, shape=(32, 32, 3))
    write_tar(tmp_path / "cifar10-png.tar.xz", [(k, encoded(v)) for k, v in pixels.items()])
    data = load("cifar10", str(tmp_path))
    assert (data.name, data.shape, data.classes) == ("cifar10", (3, 32, 32), CLASSES)
    assert np.array_equal(data.x_train[4], pixels["train/automobile/1.png"].transpose(2, 0, 1))
    write_folder(tmp_path / "folder", [(k, encoded(v)) for k, v in pixels.items()])
    assert load("cifar10", str(tmp_path / "folder")).describe() == data.describe()


@pytest.mark.parametrize("form", ["folder", "x.tar", "x.tar.gz", "x.tar.xz"])
def test_images(tmp_path, monkeypatch, form):
    pixels = tree(("b", "a"), 4, 2)
    files = [(name, encoded(x)) for name, x in pixels.items()]
    files += [("train/a/._0.png", b"no image"), ("README.md", b""), ("val/c/0.png", files[0][1])]
    files = [files[k] for k in RNG.permutation(len(files))]
    if form == "folder":
        write_folder(tmp_path / "set", files)
        monkeypatch.chdir(tmp_path / "set")
        data = load(".")
        assert data.name == "set"
    else:
        write_tar(tmp_path / form, [(f"./set/{name}", content) for name, content in files])
        data = load(str(tmp_path / form))
        assert data.name == form
    assert data.classes == ("a", "b")
    expected = [pixels[f"train/{label}/{k}.png"] for label in "ab" for k in range(4)]
    assert np.array_equal(data.x_train, np.transpose(expected, (0, 3, 1, 2)))
    assert data.y_train.tolist() == [0] * 4 + [1] * 4
    assert data.y_test.tolist() == [0, 0, 1, 1]
    everything = np.transpose(expected, (0, 3, 1, 2)).astype(float)
    mean, deviation = everything.mean((0, 2, 3)), everything.std((0, 2, 3))
    expected = (data.x_test[[3]] - mean[:, None, None]) / deviation[:, None, None]
    assert np.allclose(data.inputs("test", np.array([3])), expected, atol=1e-5)
    inputs = data.inputs("train", np.arange(8))
    assert np.allclose(inputs.mean((0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(inputs.std((0, 2, 3)), 1, atol=1e-5)


def test_images_in_one_part(tmp_path):
    files = [(f"{label}/{k}.png", np.full((3, 2), k, np.uint8)) for label in "ab" for k in range(9)]
    write_folder(tmp_path, [(name, encoded(x)) for name, x in files])
    data = load(str(tmp_path))
    assert (len(data.x_train), len(data.x_test), data.shape) == (15, 3, (1, 3, 2))
    both = np.concatenate([data.x_train, data.x_test])[:, 0, 0, 0]
    assert sorted(both) == sorted([*range(9), *range(9)])


def test_kinds_of_images(tmp_path):
    grey = RNG.integers(0, 256, (4, 4)).astype(np.uint8)
    colour = RNG.integers(0, 256, (4, 4, 4)).astype(np.uint8)
    flat = np.full((4, 4, 3), 90, np.uint8)
    kinds = {
        "train/a/0.PNG": encoded(grey),
        "train/a/1.png": encoded(colour),
        "train/a/2.jpeg": encoded(flat, "jpeg"),
        "train/b/0.png": encoded(colour[:, :, :3]),
        "train/b/1.png": encoded(flat, mode="P"),
        "test/a/0.png": encoded(grey > 99),
    }
    write_folder(tmp_path, kinds.items())
    data = load(str(tmp_path))
    colour = colour.transpose(2, 0, 1)[:3]
    assert np.array_equal(data.x_train[0], [grey] * 3)
    assert np.array_equal(data.x_train[1], colour)
    assert (data.x_train[2] == 90).all()
    assert np.array_equal(data.x_train[3], colour)
    assert np.array_equal(data.x_test[0, 0], 255 * (grey > 99))


def test_a_constant_channel_is_finite(tmp_path):
    black = np.zeros((10, 4, 4, 3), np.uint8)
    black[:, :, :, 1] = RNG.integers(0, 256, (10, 4, 4))
    write_folder(tmp_path, [(f"{'ab'[k % 2]}/{k}.png", encoded(x)) for k, x in enumerate(black)])
    inputs = load(str(tmp_path)).inputs("train", np.arange(8))
    assert np.isfinite(inputs).all()
    assert (inputs[:, [0, 2]] == 0).all()


def test_refusals_of_images(tmp_path):
    image, larger = encoded(np.zeros((4, 4), np.uint8)), encoded(np.zeros((4, 5), np.uint8))
    deep = encoded(np.full((4, 4), 999, np.uint16))
    plain = [(f"{label}/{k}.png", image) for label in "ab" for k in range(5)]
    for files, message in (
        ([("0.png", image)], "has no images in folders of classes: accepted are train/CLASS"),
        ([*plain, ("b/x.png", larger)], r"one size, got 4x4 \(.*\) and 4x5 \(b/x\.png\)"),
        ([*plain, ("b/x.png", image[:45])], r"b/x\.png is no JPEG or PNG image, or is damaged"),
        ([*plain, ("b/x.jpg", b"GIF89a")], r"b/x\.jpg is no JPEG or PNG"),
        ([*plain, ("b/x.png", deep)], r"b/x\.png must have 8 bits a channel"),
        ([("train/a/0.png", image), ("train/b/0.png", image)], r"in train/ alone: accepted are"),
        (plain[:5], "labels must be of two classes or more, got one"),
        ([*plain[:1], plain[-1]], "2 samples are too few to hold some out"),
        (
            [(f"{part}/0.png", image) for part in ("train/a", "train/b", "test/c", "test/a")],
            "'c' has none",
        ),
    ):
        path = tmp_path / "x.tar"
        write_tar(path, files)
        with pytest.raises(InputError, match=message) as error:
            load(str(path))
        assert "\n" not in str(error.value)
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a/0.png")
        link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InputError, match=r"a/0\.png is a link; accepted are plain files"):
        load(str(path))


def test_damaged_tars(tmp_path):
    image = encoded(RNG.integers(0, 256, (9, 9)).astype(np.uint8))
    files = [(f"{label}/{k}.png", image) for label in "ab" for k in range(20)]
    for name in ("x.tar", "x.tar.gz", "x.tar.xz"):
        write_tar(tmp_path / name, files)
        good = (tmp_path / name).read_bytes()
        step = 512 if name == "x.tar" else max(len(good) // 40, 1)
        end = 512 * 2 * len(files) if name == "x.tar" else len(good)
        for size in range(0, end, step):  # a plain tar is cut between files, too
            (tmp_path / name).write_bytes(good[:size])
            with pytest.raises(InputError, match="is damaged or incomplete: "):
                load(str(tmp_path / name))
        broken = bytearray(good)
        broken[len(good) // 2 // 512 * 512 + 148 : len(good) // 2 // 512 * 512 + 160] = b"x" * 12
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(InputError):
            load(str(tmp_path / name))


def test_images_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(InputError, match=r"need Pillow: pip install 'zoo-engine\[images\]'"):
        load(str(tmp_path))
    load("digits")


@pytest.mark.parametrize(
    ("shape", "expected", "axes"),
    [
        ((7,), (7, 1, 1), None),
        ((6, 5), (1, 6, 5), None),
        ((3, 6, 5), (3, 6, 5), None),
        ((2, 6, 5), (2, 6, 5), None),
        ((6, 5, 3), (3, 6, 5), (0, 3, 1, 2)),
        ((6, 5, 1), (1, 6, 5), (0, 3, 1, 2)),
        ((3, 5, 3), (3, 5, 3), None),
        ((6, 1, 1), (6, 1, 1), None),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int16])
def test_arrays(tmp_path, shape, expected, axes, dtype):
    x = RNG.integers(0, 200, (12, *shape)).astype(dtype)
    y = np.arange(12)[:, None] % 2.0
    np.savez_compressed(
        tmp_path / "x.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:]
    )
    data = load(str(tmp_path / "x.npz"))
    assert (data.name, data.shape, data.classes) == ("x.npz", expected, ("0", "1"))
    image = np.uint8 == dtype
    assert data.x_train.dtype == (np.uint8 if image else np.float32)
    assert data.x_train.flags.c_contiguous
    x = x if axes is None else x.transpose(axes)
    inputs = data.inputs("test", np.arange(4))
    assert inputs.dtype == np.float32
    assert np.allclose(inputs, x[8:].reshape(4, *expected) / (255 if image else 1), rtol=1e-6)
    assert data.y_test.tolist() == [0, 1, 0, 1]


def test_inputs_do_not_touch_what_is_stored(tmp_path):
    np.savez(tmp_path / "x.npz", x=RNG.normal(size=(10, 3)), y=np.arange(10) % 2)
    data = load(str(tmp_path / "x.npz"))
    inputs = data.inputs("train", slice(0, 3))
    inputs += 1
    assert np.array_equal(inputs, data.x_train[:3] + 1)
    with pytest.raises(ValueError, match="read-only"):
        data.x_train[0] = 0


X, Y = np.arange(24.0).reshape(12, 2), np.arange(12) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "y": Y}, r"has the arrays a, y; accepted are x_train, y_train, x_test and y_t"),
        ({}, r"has the arrays \(none\)"),
        ({"x_train": X, "y_train": Y}, "has the arrays x_train, y_train; accepted"),
        ({"x": X, "y": Y[:11]}, "there are 12 samples, but 11 labels"),
        ({"x": X[:0], "y": Y[:0]}, "there are no samples"),
        ({"x": X[:, :0], "y": Y}, r"x must be features \(N, F\), or images .* got shape \(12, 0\)"),
        ({"x": X[:, 0], "y": Y}, r"got shape \(12,\)"),
        ({"x": X[0, 0], "y": Y}, r"got shape \(\)"),
        ({"x": X, "y": Y[0]}, r"labels must be one number a sample, got shape \(\)"),
        ({"x": X, "y": np.eye(3)[Y]}, r"one number a sample, got shape \(12, 3\)"),
        ({"x": X, "y": Y - 1}, "labels must be whole numbers from 0 on, got -1 as number 1"),
        ({"x": X, "y": Y + 0.5}, r"from 0 on, got 0\.5 as number 1"),
        ({"x": X, "y": Y * np.nan}, "from 0 on, got nan"),
        ({"x": X, "y": Y * 1e300}, r"from 0 on, got 1e\+300"),
        ({"x": X, "y": Y.astype(str)}, "from 0 on, got <U21"),
        ({"x": X, "y": Y * 2}, "without gaps, .* of the 5 up to the largest, 1 has none"),
        ({"x": X, "y": Y + 1}, "of the 4 up to the largest, 0 has none"),
        ({"x": X, "y": Y * 0}, "labels must be of two classes or more, got one"),
        ({"x": X[:3], "y": Y[:3]}, "3 samples are too few to hold some out"),
        ({"x": X * [1, np.nan], "y": Y}, r"finite float32 numbers, x\[0\] is not"),
        ({"x": X + 1e40 * (X == 6), "y": Y}, r"finite float32 numbers, x\[3\] is not"),
        ({"x": X.astype(str), "y": Y}, "x must be real numbers, got <U32"),
        ({"x": X * 1j, "y": Y}, "x must be real numbers, got complex128"),
        ({"x": X.astype(object), "y": Y}, "Object arrays cannot be loaded .* accepted are arrays"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y},
            r"one shape and type; x_train is \(2,\) of float64, x_test is \(1,\) of float64",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X.astype(np.uint8), "y_test": Y},
            r"x_test is \(2,\) of uint8",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]},
            "test part: there are no samples",
        ),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
            "each must have training samples; of the 4 up to the largest, 3 has none",
        ),
    ],
)
def test_refusals_of_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message) as error:
        load(str(tmp_path / "x.npz"))
    assert "\n" not in str(error.value)


def test_refusals_of_other_files(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X, y=Y)
    good = path.read_bytes()
    for content in (b"", good[:-30], good[:200] + b"\0\1\2\3" + good[204:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npz"):
            load(str(path))
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(InputError, match=r"is no \.npz file: accepted is what numpy\.savez writes"):
        load(str(path))
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"cannot tell what .*x\.csv is: accepted are digits, mn"):
        load(str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "no data set or file 'digit': did you mean 'digits'?"),
        ("MNIST", "did you mean 'mnist'?"),
        ("cifar-10", "did you mean 'cifar10'?"),
        ("imagery", "no data set or file 'imagery': accepted are digits, mnist, cifar10, or"),
        ("a" * 4000, "File name too long"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load(name)


def test_refused_splits():
    with pytest.raises(InputError, match="split must be a whole number from 0"):
        load("digits", split=-1)


def test_describe(tmp_path):
    def described(x, y):
        np.savez(tmp_path / "x.npz", x=x, y=y)
        return load(str(tmp_path / "x.npz")).describe()

    one = described(X, Y)
    assert json.loads(json.dumps(one)) == one
    assert one | {"digest": ""} == {
        "name": "x.npz",
        "train": 10,
        "test": 2,
        "classes": ["0", "1", "2"],
        "shape": [2, 1, 1],
        "digest": "",
    }
    assert described(X, Y) == one
    assert described(X + (X == 5), Y) != one
    assert described(X, Y[::-1]) != one


def test_batches():
    n, size = 50, 16
    for epoch in (0, 1, 7):
        batches = [batch_rows(n, size, 5, 4 * epoch + k) for k in range(4)]
        assert [len(rows) for rows in batches] == [16, 16, 16, 2]
        words = philox_words(5, n, epoch, 32)
        assert np.concatenate(batches).tolist() == sorted(range(n), key=lambda row: words[row])
    assert batches[0].dtype == np.int64
    assert sorted(batch_rows(5, 100, 0, 3)) == list(range(5))
    assert len({tuple(batch_rows(5, 5, seed, 0)) for seed in range(20)}) > 10
    with pytest.raises(ValueError, match="read-only"):
        batches[0][0] = 0


def test_crop_and_flip():
    n, height, width = 400, 6, 7
    x = np.broadcast_to(
        np.arange(1, 1 + 2 * height * width, dtype=np.float32).reshape(2, height, width),
        (n, 2, height, width),
    )
    out = crop_and_flip(x, 3, 11)
    assert out.dtype == np.float32
    assert np.array_equal(out, crop_and_flip(x, 3, 11))
    assert np.array_equal(out[:9], crop_and_flip(x[:9], 3, 11))
    assert not np.array_equal(out, crop_and_flip(x, 3, 12))
    assert not np.array_equal(out, crop_and_flip(x, 4, 11))
    padded = np.pad(x[0], ((0, 0), (4, 4), (4, 4)))
    crops = {}
    for top in range(9):
        for left in range(9):
            crop = padded[:, top : top + height, left : left + width]
            crops[crop.tobytes()] = (top, left, False)
            crops[crop[:, :, ::-1].tobytes()] = (top, left, True)
    found = np.array([crops[image.tobytes()] for image in out])
    for column, values in ((0, 9), (1, 9), (2, 2)):  # each even, within 5 standard deviations
        counts = np.bincount(found[:, column], minlength=values)
        assert (np.abs(counts - n / values) < 5 * np.sqrt(n / values)).all()
    assert np.abs(np.corrcoef(found.T)[np.triu_indices(3, 1)]).max() < 0.25
