"""All providers keep one contract; each one's own promises."""

from __future__ import annotations

import inspect
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from superflow.camera.cache_build import build_feature_cache
from superflow.camera.superpixels import IGNORE, PROVIDERS, make_provider, make_superpixels
from superflow.camera.superpixels.clusters import segment_scores
from superflow.camera.superpixels.ids import as_ids
from superflow.camera.superpixels.kmeans import _starts, kmeans
from superflow.camera.superpixels.provider import RANGES, provider_class
from superflow.camera.superpixels.slic import slic
from superflow.camera.teacher import make_teacher
from superflow.errors import InputError, MissingFileError

TOKEN = "token0"


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """Protocol-buffer bytes of fields."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def write_onnx_convolution(path: Path, weight: np.ndarray) -> None:
    """A model of one 1 x 1 convolution (C, 3, 1, 1): scores are linear in the colour."""

    def value(name: str, channels: int) -> bytes:
        dims = [message((1, 1)), message((1, channels)), message((2, "h")), message((2, "w"))]
        shape = message(*((1, dim) for dim in dims))
        return message((1, name), (2, message((1, message((1, 1), (2, shape))))))

    tensor = message(
        *((1, n) for n in weight.shape), (2, 1), (8, "weight"), (9, weight.astype("<f4").tobytes())
    )
    kernel = message((1, "kernel_shape"), (20, 7), (8, 1), (8, 1))
    node = message((1, "x"), (1, "weight"), (2, "y"), (4, "Conv"), (5, kernel))
    graph = message((1, node), (2, "g"), (5, tensor), (11, value("x", 3)), (12, value("y", len(weight))))
    path.write_bytes(message((1, 8), (7, graph), (8, message((1, ""), (2, 13)))))


def mask_options(folder: Path, size: tuple[int, int]) -> dict:
    (folder / "masks").mkdir(exist_ok=True)
    ids = np.random.default_rng(0).integers(0, 300, size).astype(np.uint16)
    cv2.imwrite(str(folder / "masks" / f"{TOKEN}.png"), ids)
    return {"source": folder / "masks"}


def segmenter_options(folder: Path, size: tuple[int, int]) -> dict:
    write_onnx_convolution(folder / "colours.onnx", np.eye(3).reshape(3, 3, 1, 1))
    return {"model": folder / "colours.onnx"}


# what a provider cannot do without; one that needs nothing is covered without a line here
NEEDS: dict[str, Callable[[Path, tuple[int, int]], dict]] = {
    "masks": mask_options,
    "segmenter": segmenter_options,
    "clusters": lambda folder, size: {"teacher": "filter_bank", "clusters": 5, "segments": 30, "dims": 8},
}


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_keeps_the_contract(name, scene, tmp_path):
    image = scene[0]
    image.setflags(write=False)
    options = NEEDS.get(name, lambda folder, size: {})(tmp_path, image.shape[:2])
    ids = make_superpixels(name, image, token=TOKEN, **options)
    assert ids.dtype == np.uint16
    assert ids.shape == image.shape[:2]
    assert len(np.unique(ids)) > 1
    np.testing.assert_array_equal(make_superpixels(name, image, token=TOKEN, **options), ids)
    provider = make_provider(name, **options)
    assert isinstance(provider.shared_ids, bool)
    json.dumps(provider.options())
    assert provider.options() == make_provider(name, **options).options()
    with pytest.raises(
        InputError, match=f"superpixel provider {name} has no option 'no_such_option'; the nea"
    ):
        make_provider(name, **options, no_such_option=1)
    for needed in {"masks": ["source"], "segmenter": ["model"]}.get(name, []):
        with pytest.raises(InputError, match=f"provider {name} needs the option '{needed}'; see docs/superp"):
            make_provider(name, **{key: value for key, value in options.items() if key != needed})
    odd = image[:37, :51]
    if name != "masks":  # whose files have a size of their own
        assert make_superpixels(name, odd, token=TOKEN, **options).shape == (37, 51)
    ready = pickle.loads(pickle.dumps(provider))
    assert ready.options() == provider.options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 0}, r"segments: is 0; give a whole number from 1 to 20000"),
        ({"segments": 20001}, r"segments: is 20001; give a whole number"),
        ({"segments": 1.5}, r"segments: is 1.5; give a whole number"),
        ({"shrink": 0}, "shrink: is 0; give a whole number from 1 on"),
        ({"compactness": np.nan}, "compactness: is nan; give a number above 0"),
        ({"compactness": np.inf}, "compactness: is inf; give a number above 0"),
        ({"compactness": 0}, "compactness: is 0; give a number above 0"),
        ({"compactness": "nan"}, "compactness: is 'nan'; give a whole number or a number"),
        ({"compactness": None}, "compactness: is None; give a whole number or a number"),
        (
            {"implementation": "cv2"},
            "implementation must be 'own' or 'skimage', not 'cv2'; see docs/superpixels",
        ),
    ],
)
def test_a_value_that_the_provider_cannot_take_is_input(options, message):
    with pytest.raises(InputError, match=f"superpixel provider slic: {message}"):
        make_provider("slic", **options)


@pytest.mark.parametrize("size", [(64,), (64, 96, 3)])
def test_a_size_is_two_numbers(size):
    with pytest.raises(InputError, match=r"^superpixel provider clusters: size: is \(.*\); give 2 values$"):
        make_provider("clusters", size=size)


def test_every_number_of_a_provider_has_a_range():
    found = {
        key
        for name in PROVIDERS
        for key, parameter in inspect.signature(provider_class(name)).parameters.items()
        if "int" in str(parameter.annotation) or "float" in str(parameter.annotation)
    }
    assert {"segments", "temperature", "unlabelled", "mean"} <= found
    assert found - {"fit_tokens", "_predictor"} <= RANGES.keys()


@pytest.mark.parametrize("compactness", [np.nan, np.inf, 1e30])
def test_distances_that_are_no_numbers_leave_a_pixel_in_its_cell(scene, compactness):
    """Where none was nearest, a label was what lay in memory, and the sums of its centre were written there."""
    ids = slic(scene[0], segments=12, compactness=compactness)
    assert 1 < ids.max() + 1 <= 2 * 12
    assert ids.min() == 0


def test_unknown_provider_and_wrong_images_are_named(scene):
    with pytest.raises(InputError, match="provider 'slick' is unknown; choose one of slic, clusters"):
        make_superpixels("slick", scene[0])
    for image in (scene[0].astype(float), scene[0][..., 0], scene[0][:0]):
        with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8"):
            make_superpixels("slic", image)


def test_mistake_20_three_hundred_masks_and_pixels_without_one(tmp_path):
    """Ids above 255 do not wrap, and no pixel takes an id it has no mask of."""
    size = (40, 60)
    (tmp_path / TOKEN).mkdir()
    for i in range(300):  # 300 masks of 2 x 2 pixels, column by column, on 1200 of the 2400 pixels
        mask = np.zeros(size, np.uint8)
        mask[i % 15 * 2 : i % 15 * 2 + 2, i // 15 * 2 : i // 15 * 2 + 2] = 255
        cv2.imwrite(str(tmp_path / TOKEN / f"{i:03}.png"), mask)
    ids = make_superpixels("masks", np.zeros((*size, 3), np.uint8), token=TOKEN, source=tmp_path)
    assert len(np.unique(ids)) == 301
    assert (ids == IGNORE).sum() == 1200
    assert (np.bincount(ids[ids != IGNORE]) == 4).all()
    row, column = np.argwhere(ids == 299)[0]
    assert row // 2 + column // 2 * 15 == 299


def test_smaller_masks_lie_on_top(tmp_path):
    (tmp_path / TOKEN).mkdir()
    for name, part in (("a", np.s_[2:4, 2:4]), ("b", np.s_[:8, :8]), ("c", np.s_[1:6, 1:6])):
        mask = np.zeros((10, 10), np.uint8)
        mask[part] = 1
        cv2.imwrite(str(tmp_path / TOKEN / f"{name}.png"), mask)
    ids = make_superpixels("masks", np.zeros((10, 10, 3), np.uint8), token=TOKEN, source=tmp_path)
    assert (ids[0, 0], ids[1, 1], ids[2, 2], ids[9, 9]) == (0, 1, 2, IGNORE)


def test_label_maps_of_all_kinds(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    values = np.arange(20, dtype=np.uint8).reshape(4, 5) % 7
    palette = Image.fromarray(values, mode="P")
    palette.putpalette([10, 200, 30] * 256)
    palette.save(tmp_path / f"{TOKEN}.png")  # as many tools write; reading colours would give one region
    np.testing.assert_array_equal(make_superpixels("masks", image, token=TOKEN, source=tmp_path), values)
    dropped = make_superpixels("masks", image, token=TOKEN, source=tmp_path, unlabelled=3)
    np.testing.assert_array_equal(dropped == IGNORE, values == 3)
    wide = np.array([[0, 300, 65534, 65535, 1]] * 4, np.uint16)
    cv2.imwrite(str(tmp_path / f"{TOKEN}.png"), wide)
    np.testing.assert_array_equal(make_superpixels("masks", image, token=TOKEN, source=tmp_path), wide)
    cv2.imwrite(str(tmp_path / f"{TOKEN}.png"), image)
    with pytest.raises(InputError, match=r"token0\.png: has 3 channels"):
        make_superpixels("masks", image, token=TOKEN, source=tmp_path)
    cv2.imwrite(str(tmp_path / f"{TOKEN}.png"), wide[:3])
    with pytest.raises(InputError, match=r"the masks are 3 x 5 .* but the image is 4 x 5"):
        make_superpixels("masks", image, token=TOKEN, source=tmp_path)
    with pytest.raises(MissingFileError, match=r"other\.png: no mask file of this image"):
        make_superpixels("masks", image, token="other", source=tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds 0 masks"):
        make_superpixels("masks", image, token="none", source=tmp_path)
    for name, size in (("a", (4, 5)), ("b", (4, 6))):
        cv2.imwrite(str(tmp_path / "none" / f"{name}.png"), np.ones(size, np.uint8))
    with pytest.raises(InputError, match="its masks have different sizes"):
        make_superpixels("masks", image, token="none", source=tmp_path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_of_a_grey_png_of_few_bits_are_as_they_are_stored(tmp_path, bits):
    """Who reads such a file as a picture spreads its levels over 0 to 255: class 3 of 4 bits would be 51."""
    values = np.arange(32, dtype=np.uint8).reshape(4, 8) % (1 << min(bits, 5))
    lines = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - bits :].reshape(4, -1)
    rows = np.pad(np.packbits(lines, axis=1), ((0, 0), (1, 0))).tobytes()  # before each line its filter: none
    head = struct.pack(">IIBBBBB", 8, 4, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    (tmp_path / f"{TOKEN}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    image = np.zeros((4, 8, 3), np.uint8)
    np.testing.assert_array_equal(make_superpixels("masks", image, token=TOKEN, source=tmp_path), values)


def test_mistake_19_ids_do_not_wrap():
    narrow = np.array([[250, 255]], np.uint8)
    assert as_ids(narrow, "x").tolist() == [[250, 255]]
    assert as_ids(narrow.astype(np.int64) + 16 * 17, "x").max() == 255 + 272
    assert as_ids(np.array([[-1, 5]]), "x").tolist() == [[IGNORE, 5]]
    with pytest.raises(ValueError, match="x: region id 65536 does not fit 16 bits"):
        as_ids(np.array([[65536]]), "x")


def test_segment_scores_equal_enlarging_and_averaging():
    generator = np.random.default_rng(0)
    segments = np.unique(generator.integers(0, 9, (17, 23)), return_inverse=True)[1].reshape(17, 23)
    for grid in ((4, 6), (1, 5), (17, 23), (1, 1)):
        scores = generator.random((3, *grid)).astype(np.float32)
        large = F.interpolate(torch.from_numpy(scores)[None], size=(17, 23), mode="bilinear")[0].numpy()
        expected = [[large[k][segments == s].mean() for k in range(3)] for s in range(9)]
        np.testing.assert_allclose(segment_scores(segments, scores), expected, atol=1e-5)


def two_materials(cameras: list) -> None:
    """Every image: left half fine noise, right half smooth red, at another brightness each time."""
    for i, camera in enumerate(cameras):
        image = np.full((64, 96, 3), (40, 40, 190 + 10 * i), np.uint8)
        image[:, :48] = np.random.default_rng(i).integers(0, 256, (64, 48, 1))
        cv2.imwrite(camera.path, image)


CLUSTERS = {"teacher": "filter_bank", "clusters": 2, "segments": 40, "dims": 8, "size": (64, 96)}


def test_clusters_mean_the_same_in_every_image(make_cameras):
    cameras = make_cameras(4)
    two_materials(cameras)
    provider = make_provider("clusters", **CLUSTERS).fit(cameras)
    assert provider.shared_ids
    maps = [provider(cv2.imread(camera.path)[:, :, ::-1].copy(), camera.token) for camera in cameras]
    left, right = (
        {int(np.bincount(half.ravel()).argmax()) for half in halves}
        for halves in zip(*(np.split(m, 2, 1) for m in maps))
    )
    assert len(left) == len(right) == 1
    assert left != right
    assert all((m[:, 52:] == right.copy().pop()).mean() > 0.9 for m in maps)
    again = make_provider("clusters", **CLUSTERS).fit(cameras)
    assert again.made_by() == provider.made_by()
    assert provider.made_by()["teacher"]["name"] == "filter_bank"


def test_components_are_numbered_anew_in_each_image(make_cameras):
    cameras = make_cameras(2)
    two_materials(cameras)
    provider = make_provider("clusters", **CLUSTERS, components=True).fit(cameras)
    assert not provider.shared_ids
    ids = provider(cv2.imread(cameras[1].path)[:, :, ::-1].copy())
    present = np.unique(ids)
    assert present.tolist() == list(range(len(present)))


def test_clusters_from_a_feature_cache(make_cameras, tmp_path):
    cameras = make_cameras(3)
    two_materials(cameras)
    teacher = make_teacher("filter_bank")
    build_feature_cache(cameras, teacher, tmp_path / "cache", size=(64, 96), components=8)
    provider = make_provider("clusters", features=tmp_path / "cache", clusters=3, segments=40)
    with pytest.raises(InputError, match="call fit"):
        provider(np.zeros((64, 96, 3), np.uint8), "token0")
    ready = provider.fit(cameras, tmp_path / "out")
    assert ready.made_by()["teacher"] == teacher.record()
    image = cv2.imread(cameras[2].path)[:, :, ::-1].copy()
    ids = ready(image, "token2")
    assert len(np.unique(ids)) in (2, 3)
    # a codebook that lies in the folder is taken again
    resumed = make_provider("clusters", features=tmp_path / "cache", clusters=3, segments=40).fit(
        [], tmp_path / "out"
    )
    np.testing.assert_array_equal(resumed(image, "token2"), ids)
    with pytest.raises(InputError, match="no features of image 'other'"):
        ready(image, "other")
    with pytest.raises(InputError, match="none of the images may make the codebook"):
        make_provider("clusters", features=tmp_path / "cache", fit_tokens=["other"]).fit(cameras)


def slow_kmeans(rows: np.ndarray, centres: np.ndarray, iterations: int) -> np.ndarray:
    """Lloyd's rounds, one centre at a time; one without rows stays."""
    for _ in range(iterations):
        nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack(
            [rows[nearest == k].mean(axis=0) if k in nearest else centre for k, centre in enumerate(centres)]
        )
    return centres


def test_kmeans_finds_separate_groups_and_leaves_empty_centres():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(6, 4)) * 20
    group = generator.integers(0, 6, 600)
    rows = (truth[group] + generator.normal(size=(600, 4))).astype(np.float32)
    centres = kmeans(rows, 6, np.random.default_rng(1))
    assert centres.dtype == np.float32
    squared = ((rows[:, None] - centres) ** 2).sum(axis=2)
    assert all(len(np.unique(group[squared.argmin(axis=1) == k])) == 1 for k in range(6))
    assert squared.min(axis=1).max() < 40
    same = np.ones((5, 2), np.float32)
    assert np.isfinite(kmeans(same, 3, np.random.default_rng(0))).all()
    with pytest.raises(ValueError, match="5 rows cannot make 6 clusters"):
        kmeans(same, 6, np.random.default_rng(0))


@pytest.mark.parametrize("iterations", [1, 4])
def test_kmeans_equals_its_slow_twin(iterations):
    rows = np.random.default_rng(2).normal(size=(300, 5)).astype(np.float32)
    starts = _starts(rows, 7, np.random.default_rng(3))
    assert len(np.unique(starts, axis=0)) == 7
    got = kmeans(rows, 7, np.random.default_rng(3), iterations=iterations)
    np.testing.assert_allclose(got, slow_kmeans(rows.astype(float), starts, iterations), atol=1e-5)


@pytest.fixture(scope="module")
def torchvision_weights(tmp_path_factory) -> Path:
    """A random model of torchvision with five classes, saved to a file."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "lraspp.pth"
    torch.save(
        lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).state_dict(), path
    )
    return path


def test_torchvision_segmenter_from_a_file(torchvision_weights, scene):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    options = {"model": "lraspp_mobilenet_v3_large", "weights": torchvision_weights}
    ids = make_superpixels("segmenter", scene[0], **options)
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).eval()
    model.load_state_dict(torch.load(torchvision_weights, weights_only=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        scores = model(((torch.from_numpy(scene[0]) / 255 - mean) / std).permute(2, 0, 1)[None])["out"]
    assert (ids == scores[0].argmax(0).numpy()).mean() > 0.99
    assert make_provider("segmenter", **options).made_by()["sha256"]
    half = make_superpixels("segmenter", scene[0], size=(32, 64), **options)
    assert half.shape == ids.shape
    seen = int(np.bincount(ids.ravel()).argmax())
    dropped = make_superpixels("segmenter", scene[0], unknown=(seen,), **options)
    np.testing.assert_array_equal(dropped == IGNORE, ids == seen)
    assert (make_superpixels("segmenter", scene[0], min_score=0.999, **options) == IGNORE).all()


def test_onnx_segmenter_takes_the_strongest_colour(tmp_path, scene):
    options = segmenter_options(tmp_path, scene[0].shape[:2]) | {"mean": (0, 0, 0), "std": (1, 1, 1)}
    ids = make_superpixels("segmenter", scene[0], **options)
    np.testing.assert_array_equal(ids, scene[0].argmax(axis=2))


def test_a_segmenter_may_end_in_a_softmax():
    """A softmax of shares would be sure of nothing, and take nearly every pixel for one of no class."""
    scores = np.random.default_rng(0).normal(0, 3, (1, 5, 6, 7)).astype(np.float32)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    segmenter = make_provider("segmenter", model="x.onnx", min_score=0.6)
    found = segmenter._classes(scores, (6, 7))
    np.testing.assert_array_equal(segmenter._classes(shares, (6, 7)), found)
    np.testing.assert_array_equal(found == IGNORE, shares[0].max(axis=0) < 0.6)
    assert 0 < (found == IGNORE).mean() < 1


def test_segmenters_that_cannot_be_had(tmp_path, torchvision_weights):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="segmenter lraspp_mobilenet_v3_large: no weights"):
        make_superpixels("segmenter", image, model="lraspp_mobilenet_v3_large")
    with pytest.raises(InputError, match=r"not in torchvision .*export another model to ONNX"):
        make_superpixels("segmenter", image, model="segformer", weights=torchvision_weights)
    with pytest.raises(InputError, match="these are no weights of fcn_resnet50"):
        make_superpixels("segmenter", image, model="fcn_resnet50", weights=torchvision_weights)
    with pytest.raises(MissingFileError, match=r"none\.onnx: this ONNX file does not exist"):
        make_superpixels("segmenter", image, model=tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx: OpenCV cannot run this ONNX model"):
        make_superpixels("segmenter", image, model=tmp_path / "text.onnx")
