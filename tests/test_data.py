"""Reading and checking data: what comes out, and each refusal in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgelathe.data import Dataset, Preprocess, Split, load_data, stratified_order
from edgelathe.errors import EdgeLatheError
from edgelathe.imagefiles import fit_arrays
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def _images(n: int, seed: int, shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def _save_npz(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    np.savez(folder / "train.npz", x=x, y=y)
    np.savez(folder / "test.npz", x=_images(2, seed=9, shape=x.shape[1:]), y=np.array([0, 1]))
    return folder


def _save_classes(folder: Path, *, size: tuple[int, int] = (8, 6)) -> Path:
    for which, count in (("train", 3), ("val", 2)):
        for name, value in (("ant", 10), ("bee", 200)):
            (folder / which / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", size, (value, index, 0)).save(folder / which / name / f"{index}.png")
    return folder


def _refusal(source: str, root: Path | None = None, **keys: object) -> str:
    with pytest.raises(EdgeLatheError) as refusal:
        load_data(source, root, **keys)
    return str(refusal.value)


def test_reading_data_loads_no_torch() -> None:
    code = "import sys, edgelathe.data; edgelathe.data.load_data('digits'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# --- pixels to inputs --------------------------------------------------------------------------------------


def test_preprocess_normalises_each_channel() -> None:
    x = _images(3, seed=0, shape=(5, 7, 2))
    out = Preprocess((0.5, 0.1), (0.25, 2.0))(x)
    assert out.shape == (3, 2, 5, 7) and out.dtype == np.float32 and out.flags.c_contiguous
    expected = (x / 255 - [0.5, 0.1]) / [0.25, 2.0]
    np.testing.assert_allclose(out, expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-6)


def test_preprocess_can_leave_inputs_at_0_to_255_exactly() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(Preprocess((0.0,), (1 / 255,))(x)[0, 0], x[0, ..., 0].astype(np.float32))


def test_preprocess_refuses_other_channels() -> None:
    with pytest.raises(EdgeLatheError) as refusal:
        Preprocess((0.5,), (0.5,))(_images(2, seed=0))
    assert str(refusal.value) == (
        "Cannot use images to preprocess of type uint8 and shape [2, 4, 4, 3]: "
        "give uint8 (or floats in 0..1) of shape [N, H, W, 1]."
    )


# --- splits ------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 3), st.data())
def test_every_head_of_the_stratified_order_keeps_shares(labels: list[int], seed: int, data: st.DataObject) -> None:
    y = np.array(labels)
    order = stratified_order(y, seed)
    assert sorted(order) == list(range(len(y)))
    head = data.draw(st.integers(0, len(y)))
    for label in set(labels):
        share = head * labels.count(label) / len(y)
        # Each class is off by at most one rounding, plus those of the classes that tie with it.
        assert abs(np.count_nonzero(y[order[:head]] == label) - share) <= len(set(labels))


def test_take_is_seeded_and_stratified() -> None:
    split = Split(_images(100, seed=1), np.arange(100) % 10)
    taken = split.take(20, seed=3)
    assert np.bincount(taken.y).tolist() == [2] * 10
    np.testing.assert_array_equal(taken.x, split.take(20, seed=3).x)
    assert not np.array_equal(taken.x, split.take(20, seed=4).x)
    assert len(split.take(1000, seed=3)) == 100
    np.testing.assert_array_equal(split.first(5).x, split.x[:5])


def test_fingerprint_sees_pixels_labels_and_order_but_not_normalisation() -> None:
    split = Split(_images(6, seed=2), np.arange(6) % 2)
    base = Dataset("a", split, split, ("0", "1"), Preprocess((0.0,) * 3, (1.0,) * 3))
    other_norm = Dataset("b", split, split, ("0", "1"), Preprocess((0.5,) * 3, (1.0,) * 3))
    other_order = Dataset("a", split, split[np.arange(6)[::-1]], ("0", "1"), base.preprocess)
    no_train = Dataset("a", None, split, ("0", "1"), base.preprocess)
    assert base.fingerprint == other_norm.fingerprint
    assert len({base.fingerprint, other_order.fingerprint, no_train.fingerprint}) == 3


def test_calibration_is_never_taken_from_test_images() -> None:
    train, test = (
        Split(np.zeros((4, 2, 2, 1), np.uint8), np.arange(4) % 2),
        Split(_images(4, 0, (2, 2, 1)), np.arange(4) % 2),
    )
    data = Dataset("toy", train, test, ("0", "1"), Preprocess((0.5,), (0.5,)))
    assert data.calibration(2, seed=0).x.max() == 0
    with pytest.raises(EdgeLatheError) as refusal:
        Dataset("toy", None, test, ("0", "1"), data.preprocess).calibration(2, seed=0)
    assert str(refusal.value) == (
        "Cannot calibrate on toy: it has no training images, and test images must not be calibrated on; "
        "set holdout to put some of them apart."
    )


# --- sources -----------------------------------------------------------------------------------------------


def test_digits() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.shape, data.classes) == (
        1438,
        359,
        (1, 8, 8),
        tuple("0123456789"),
    )
    assert data.train.x.dtype == np.uint8 and data.train.x.max() == 255 and data.train.y.dtype == np.int64
    assert np.bincount(data.test.y).min() == 35
    inputs = data.preprocess(data.train.x)
    assert abs(inputs.mean()) < 0.01 and abs(inputs.std() - 1) < 0.01
    assert data.fingerprint == load_data("digits").fingerprint != load_data("digits", seed=1).fingerprint


def test_digits_are_upsampled_and_limited() -> None:
    data = load_data("digits", size=16, limit_train=50, limit_test=20)
    assert (len(data.train), len(data.test), data.shape) == (50, 20, (1, 16, 16))
    assert np.bincount(data.train.y).tolist() == [5] * 10


def test_npz_folder_in_natural_order(tmp_path: Path) -> None:
    parts = [_images(2, seed=i) for i in range(11)]
    for index, part in enumerate(parts):
        np.savez(tmp_path / f"train-{index}.npz", x=part, y=np.array([0, 1], np.uint8))
    np.savez(tmp_path / "test.npz", x=parts[0], y=np.array([[0], [1]]))
    data = load_data("npz", tmp_path)
    np.testing.assert_array_equal(data.train.x, np.concatenate(parts))
    assert data.test.y.tolist() == [0, 1] and data.classes == ("0", "1")


def test_npz_file_with_grey_images_and_no_training_part(tmp_path: Path) -> None:
    x = _images(10, seed=0, shape=(4, 4))
    np.savez(tmp_path / "mine.npz", x_test=x, y_test=np.arange(10) % 3)
    data = load_data("npz", tmp_path / "mine.npz", holdout=4, mean=[0.2], std=[0.3])
    assert (data.name, len(data.train), len(data.test), data.shape) == ("mine", 4, 6, (1, 4, 4))
    together = np.concatenate([data.train.x, data.test.x])[..., 0]
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in x)
    assert data.preprocess == Preprocess((0.2,), (0.3,))


@pytest.mark.parametrize(("name", "labels"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar_binary(name: str, labels: int, tmp_path: Path) -> None:
    x = _images(20, seed=5, shape=(32, 32, 3))
    y = np.arange(20, dtype=np.uint8) % 10
    columns = [np.zeros(20, np.uint8)] * (labels - 1) + [y]
    records = np.concatenate([np.stack(columns, 1), x.transpose(0, 3, 1, 2).reshape(20, -1)], 1)
    files = ("data_batch_1.bin", "test_batch.bin") if labels == 1 else ("train.bin", "test.bin")
    for file in files:
        records.tofile(tmp_path / file)
    if labels == 2:
        (tmp_path / "fine_label_names.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n")
    data = load_data(name, tmp_path)
    np.testing.assert_array_equal(data.test.x, x)
    assert data.train.y.tolist() == y.tolist()
    assert data.classes[3] == ("cat" if labels == 1 else "class3")


def test_image_folder(tmp_path: Path) -> None:
    data = load_data("folder", _save_classes(tmp_path))
    assert (len(data.train), len(data.test), data.shape, data.classes) == (6, 4, (3, 6, 8), ("ant", "bee"))
    assert data.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.x[4, 0, 0].tolist() == [200, 1, 0]


def test_images_are_resized_by_the_shorter_side_then_cropped(tmp_path: Path) -> None:
    data = load_data("folder", _save_classes(tmp_path, size=(40, 20)), size=8, resize=10)
    assert data.shape == (3, 8, 8)
    gradient = np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (20, 1, 3))
    fitted = fit_arrays(gradient[None], 8, 10)[0]
    reference = Image.fromarray(gradient).resize((20, 10), Image.Resampling.BILINEAR).crop((6, 1, 14, 9))
    np.testing.assert_array_equal(fitted, np.asarray(reference))


def test_image_files_are_fitted_once(tmp_path: Path) -> None:
    gradient = np.tile(np.arange(0, 200, 5, dtype=np.uint8)[None, :, None], (20, 1, 3))
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(gradient).save(tmp_path / split / "a" / "0.png")
    data = load_data("folder", tmp_path, size=8, resize=10)
    reference = Image.fromarray(gradient).resize((20, 10), Image.Resampling.BILINEAR).crop((6, 1, 14, 9))
    np.testing.assert_array_equal(data.test.x[0], np.asarray(reference))


def test_image_folder_with_labels_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(6):
        Image.new("L", (4, 4), index).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "labels.csv").write_text("file,class\n" + "".join(f"{i}.png,{i % 3}\n" for i in range(6)))
    data = load_data("folder", tmp_path, holdout=2, num_classes=5)
    assert (len(data.train), len(data.test), len(data.classes)) == (2, 4, 5)
    assert [int(image.max()) % 3 for image in data.test.x] == data.test.y.tolist()


def test_user_function_in_both_forms(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from edgelathe.data import Dataset, Preprocess, Split\n"
        "def arrays():\n"
        "    return None, None, np.ones((4, 2, 2, 1)) / 2, np.array([0, 1, 0, 1])\n"
        "def dataset(root):\n"
        "    split = Split(np.zeros((2, 2, 2, 1), np.uint8), np.array([0, 1]))\n"
        "    return Dataset(root.name, split, split, ('no', 'yes'), Preprocess((0.1,), (0.2,)))\n"
    )
    data = load_data(f"{tmp_path}/mine.py:arrays", holdout=2)
    assert data.name == "arrays" and data.test.x.max() == 128 and len(data.train) == 2
    data = load_data(f"{tmp_path}/mine.py:dataset", tmp_path, std=[0.5])
    assert (data.name, data.classes) == (tmp_path.name, ("no", "yes"))
    assert data.preprocess == Preprocess((0.1,), (0.5,))


def test_published_data(test_data: Path) -> None:
    data = load_data("cifar10", test_data / "cifar10", limit_train=100)
    assert (len(data.test), data.shape, data.classes[3]) == (1000, (3, 32, 32), "cat")
    assert abs(data.preprocess(data.train.x).mean()) < 0.1


def test_published_image_sample(test_data: Path) -> None:
    data = load_data("folder", test_data / "imagenet-sample", size=32, resize=36, holdout=100, num_classes=1000)
    assert (len(data.train), len(data.test), data.shape, len(data.classes)) == (100, 400, (3, 32, 32), 1000)


# --- refusals ----------------------------------------------------------------------------------------------


def test_unknown_source_names_the_nearest() -> None:
    assert _refusal("digit") == 'Unknown data source "digit": did you mean "digits"?'


def test_missing_root_and_missing_folder(tmp_path: Path) -> None:
    assert _refusal("cifar10") == 'Cannot read the data source "cifar10" without a folder: name it as root.'
    assert _refusal("npz", tmp_path / "no") == (
        f"Cannot read the data in {tmp_path / 'no'}: there is no such file; check the path."
    )


def test_empty_folders(tmp_path: Path) -> None:
    assert _refusal("folder", tmp_path) == (
        f"Cannot find images in {tmp_path}: it holds neither test/<class>/ nor val/<class>/ folders nor a "
        "labels.csv; arrange it as one of these."
    )
    assert _refusal("npz", tmp_path) == (
        f"Cannot find data in {tmp_path}: it holds no test*.npz; check the folder or choose another source."
    )


def test_class_without_images(tmp_path: Path) -> None:
    _save_classes(tmp_path)
    (tmp_path / "train" / "cow").mkdir()
    (tmp_path / "val" / "cow").mkdir()
    assert _refusal("folder", tmp_path) == (
        f'Cannot use the image folder {tmp_path / "train"}: the class "cow" has no images; '
        "add some or remove the class."
    )


def test_class_that_only_one_part_has(tmp_path: Path) -> None:
    _save_classes(tmp_path)
    (tmp_path / "val" / "cow").mkdir()
    assert 'train: the class "cow" has no images' in _refusal("folder", tmp_path)


def test_class_without_images_in_arrays(tmp_path: Path) -> None:
    root = _save_npz(tmp_path, _images(4, seed=0), np.array([0, 0, 2, 2]))
    assert f'the training images of {tmp_path.name}: the class "1" has no images' in _refusal("npz", root)


def test_truncated_image_is_named(tmp_path: Path) -> None:
    _save_classes(tmp_path)
    broken = tmp_path / "train" / "bee" / "1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    message = _refusal("folder", tmp_path)
    assert message.startswith(f"Cannot read the image {broken}: ")
    assert message.endswith("; replace or remove the file.")


def test_unequal_image_sizes(tmp_path: Path) -> None:
    _save_classes(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / "train" / "bee" / "1.png")
    assert _refusal("folder", tmp_path) == (
        f"Cannot use the image {tmp_path / 'train' / 'bee' / '1.png'} of 5 x 5 pixels beside 0.png of 6 x 8: set size."
    )


def test_folder_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 100

    monkeypatch.setattr("psutil.virtual_memory", lambda: Little)
    assert _refusal("folder", _save_classes(tmp_path)).startswith(
        f"Cannot hold the 6 images of {tmp_path / 'train'} in memory: "
    )


def test_labels_file_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,class\n../../secret.png,0\n")
    assert _refusal("folder", tmp_path) == (
        f"Cannot use line 2 of {tmp_path / 'labels.csv'}: it must hold a file name inside images/ and a class number."
    )


def test_nan_pixels_name_the_image(tmp_path: Path) -> None:
    x = np.zeros((4, 2, 2, 3), np.float32)
    x[2, 1, 0, 0] = np.nan
    assert _refusal("npz", _save_npz(tmp_path, x, np.array([0, 1, 0, 1]))) == (
        f"Cannot use the training images of {tmp_path.name}: image 2 has NaN or infinite pixels; mend or remove it."
    )


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (
            np.full((4, 2, 2, 3), 9.0),
            np.arange(4) % 2,
            "float pixels must lie in 0..1 and these reach from 9 to 9",
        ),
        (
            np.zeros((4, 2, 2, 3), np.int32),
            np.arange(4) % 2,
            "of type int32 and shape [4, 2, 2, 3]: give uint8",
        ),
        (np.zeros((4, 3, 8, 8), np.uint8), np.arange(4) % 2, "of shape [N, H, W, C]"),
        (
            np.zeros((4, 2, 2, 3), np.uint8),
            np.arange(3) % 2,
            "shape [3]: give one integer for each of the 4 images",
        ),
        (np.zeros((4, 2, 2, 3), np.uint8), np.arange(4) / 2, "of type float64 and shape [4]"),
        (
            np.zeros((4, 2, 2, 3), np.uint8),
            np.arange(4) - 1,
            "image 0 has the label -1, which must be 0 or more",
        ),
    ],
)
def test_wrong_arrays(x: np.ndarray, y: np.ndarray, reason: str, tmp_path: Path) -> None:
    assert reason in _refusal("npz", _save_npz(tmp_path, x, y))


def test_labels_beyond_the_classes(tmp_path: Path) -> None:
    root = _save_npz(tmp_path, _images(4, seed=0), np.array([0, 1, 2, 7]))
    assert "image 3 has the label 7, which must be 0..2" in _refusal("npz", root, num_classes=3)


def test_truncated_and_pickled_npz(tmp_path: Path) -> None:
    root = _save_npz(tmp_path, _images(4, seed=0), np.arange(4) % 2)
    path = tmp_path / "train.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    expected = f"Cannot read the data {path}: it is truncated, no npz file, or holds pickled objects; "
    assert _refusal("npz", root) == expected + "write it again with numpy.savez."
    np.savez(path, x=np.array([{}], object), y=np.array([0]))
    assert _refusal("npz", root).startswith(expected)


def test_npz_without_an_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", images=np.zeros(1), y=np.zeros(1))
    assert 'it has no array "x" but images, y; rename the arrays.' in _refusal("npz", tmp_path)


def test_pickled_cifar_names_the_binary_version(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"")
    assert _refusal("cifar10", tmp_path) == (
        f"Cannot read cifar10 from {tmp_path}: it is the pickled Python version, and reading pickle runs "
        "code; download the binary version (cifar-10-batches-bin) instead."
    )


def test_truncated_cifar_binary(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 3072)
    assert "its 3072 bytes are no multiple of 3073; download it again." in _refusal("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"size": 0}, "Cannot use size = 0: it must be 1 or more pixels."),
        ({"size": -3}, "Cannot use size = -3: it must be 1 or more pixels."),
        ({"resize": 20}, "Cannot resize images to 20 and cut out nothing: give a size that is not larger."),
        (
            {"resize": 8, "size": 16},
            "Cannot resize images to 8 and cut out 16: give a size that is not larger.",
        ),
        (
            {"holdout": 5},
            "Cannot hold 5 test images of digits out: it has training images; leave holdout out.",
        ),
        (
            {"num_classes": 7},
            "Cannot use digits with num_classes = 7: it names 10 classes; leave num_classes out.",
        ),
        ({"limit_test": 0}, "Cannot use limit_test = 0 on digits: it must be 1 or more."),
        (
            {"std": [0.0]},
            "Cannot normalise by std = [0]: give 1 finite values, one per channel, and a std above 0.",
        ),
    ],
)
def test_keys_that_do_not_fit(keys: dict[str, object], reason: str) -> None:
    assert _refusal("digits", **keys) == reason


def test_holdout_must_leave_test_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", x=_images(4, seed=0), y=np.arange(4) % 2)
    assert _refusal("npz", tmp_path, holdout=4).endswith(
        "holdout = 4 on " + tmp_path.name + ": it must be less than its 4 test images."
    )
