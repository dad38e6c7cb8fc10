from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgelathe.bench.accuracy import accuracy, agreement, paired, predict, predict_logits, predict_outputs
from edgelathe.errors import EdgeLatheError

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
# Classes are the three channels of a one-pixel image: the brightest wins.
BRIGHTEST = "g (float[%s,3,1,1] x) => (float[%s,3] y) { y = Flatten(x) }"


def scale(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 1, 1, 3)).astype(np.uint8)


@pytest.mark.parametrize(("declared", "batch"), [("n", 1), ("n", 4), ("n", 64), ("4", 64), ("1", 64)])
def test_predictions_do_not_depend_on_batching(save_text: Callable[[str], Path], declared: str, batch: int) -> None:
    path = save_text(HEAD + BRIGHTEST % (declared, declared))
    x = images(10)
    expected = np.argmax(x.reshape(10, 3), axis=1)
    predictions = predict(path, x, scale, batch=batch)
    assert predictions.dtype == np.int64
    assert predictions.tolist() == expected.tolist()
    logits = predict_logits(path, x, scale, batch=batch)
    np.testing.assert_allclose(logits, x.reshape(10, 3) / 255, rtol=1e-6, atol=0)


def test_no_images_give_no_predictions(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + BRIGHTEST % ("n", "n"))
    assert predict(path, images(0), scale).shape == (0,)


def test_a_map_of_one_pixel_is_flattened(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,3,1,1] x) => (float[n,3,1,1] y) { y = Identity(x) }")
    x = images(5)
    assert predict(path, x, scale).tolist() == np.argmax(x.reshape(5, 3), axis=1).tolist()


def test_a_detector_is_no_classifier(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,3,2,2] x) => (float[n,3,2,2] y) { y = Identity(x) }")
    x = np.zeros((2, 2, 2, 3), np.uint8)
    with pytest.raises(EdgeLatheError) as caught:
        predict(path, x, scale)
    assert str(caught.value) == (
        f"Cannot classify with the model {path}: its first output has the shape [2, 3, 2, 2] instead of "
        "[images, classes]; give a classifier, or one with its classes as the first output."
    )


def test_a_nan_output_names_the_image(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + BRIGHTEST % ("n", "n"))

    def spoil(batch: np.ndarray) -> np.ndarray:
        x = scale(batch)
        x[batch[:, 0, 0, 0] == 77] = np.nan
        return x

    x = np.zeros((9, 1, 1, 3), np.uint8)
    x[6, 0, 0, 0] = 77
    with pytest.raises(EdgeLatheError) as caught:
        predict(path, x, spoil, batch=4)
    assert str(caught.value) == (
        f"Cannot classify with the model {path}: its output for image 6 is NaN or infinite; "
        "check that image, the preprocessing and the model's weights."
    )


def test_inputs_of_the_wrong_shape_are_one_sentence(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + BRIGHTEST % ("n", "n"))
    with pytest.raises(EdgeLatheError, match=r'The runtime "onnxruntime" cannot run the model .*: ') as caught:
        predict(path, np.zeros((2, 5, 5, 3), np.uint8), scale)
    assert "\n" not in str(caught.value)


def test_accuracy_of_known_predictions() -> None:
    predictions, labels = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    measured = accuracy(predictions, labels)
    assert (measured.correct, measured.total, measured.top1) == (3, 4, 0.75)
    assert (measured.low, measured.high) == pytest.approx((0.3006, 0.9544), abs=5e-5)
    assert measured.predictions_sha256 == hashlib.sha256(predictions.astype("<i8").tobytes()).hexdigest()
    assert accuracy(predictions.astype(np.int32), labels) == measured


def test_agreement_ignores_what_is_right() -> None:
    measured = agreement(np.array([0, 1, 2, 3]), np.array([0, 1, 1, 3]))
    assert (measured.correct, measured.total) == (3, 4)


def test_gained_and_lost_add_up_to_the_difference() -> None:
    random = np.random.default_rng(11)
    labels, reference, own = (random.integers(0, 3, 500) for _ in range(3))
    gained, lost = paired(own, reference, labels)
    assert gained > 50
    assert lost > 50
    assert gained - lost == accuracy(own, labels).correct - accuracy(reference, labels).correct


def test_unequal_lengths_and_nothing_are_refused() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        accuracy(np.zeros(3, np.int64), np.zeros(4, np.int64))
    assert str(caught.value) == (
        "Cannot compare 3 predictions with 4 labels: there must be one of each for every image."
    )
    with pytest.raises(EdgeLatheError, match="Cannot give an accuracy of no images"):
        accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64))


def test_mobilenet_v1_on_real_images(test_data: Path) -> None:
    """Eight of the sample photographs, squeezed to 224 x 224: most must come out right."""
    from PIL import Image

    folder = test_data / "imagenet-sample"
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
    labelled = [(name, int(index)) for name, index, *_ in rows if name.endswith(".jpg")][::60][:8]
    x = np.stack(
        [
            np.asarray(
                Image.open(next(folder.rglob(name))).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            )
            for name, _ in labelled
        ]
    )
    predictions = predict(
        test_data / "weights/imagenet/mobilenet_v1_0.75_224.onnx",
        x,
        lambda batch: np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1,
        batch=4,
    )
    assert accuracy(predictions, np.array([index for _, index in labelled])).correct >= 5


def test_early_exits_answer_by_the_name_of_their_output(save_text: Callable[[str], Path]) -> None:
    """An exit that finds the darkest channel, and an output that is none."""
    body = "{ y = Flatten(x) exit_a = Neg(y) aux = Neg(y) }"
    path = save_text(HEAD + "g (float[4,3,1,1] x) => (float[4,3] y, float[4,3] aux, float[4,3] exit_a) " + body)
    x = images(10)
    found = predict_outputs(path, x, scale)
    assert list(found) == ["y", "exit_a"]
    assert found["y"].tolist() == predict(path, x, scale).tolist() == np.argmax(x.reshape(10, 3), axis=1).tolist()
    assert found["exit_a"].tolist() == np.argmin(x.reshape(10, 3), axis=1).tolist()
