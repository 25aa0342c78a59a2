"""``ImagePreprocessor`` against Hugging Face's Pillow-backed processors, bit for bit."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as hf_load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vtp.errors import (
    ImageUnreadable,
    ManifestInvalid,
    ModelNotSupported,
    VideoNotSupported,
    VideoUnreadable,
)
from vtp.export.processors.fixed import fixed_preprocessor
from vtp.runtime.media.images import load_image
from vtp.runtime.preprocessing import SEPARATOR, read_preprocessor, write_preprocessor
from vtp.runtime.preprocessing.fixed import ImagePreprocessor

from .pictures import picture

CLIP_336 = {
    "image_processor_type": "CLIPImageProcessor",
    "processor_class": "LlavaProcessor",
    "do_convert_rgb": True,
    "size": {"shortest_edge": 336},
    "crop_size": {"height": 336, "width": 336},
}
SMALL = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}

LLAVA_PADDED = {"image_processor_type": "LlavaImageProcessor", "do_pad": 1}
VIDEO_LLAVA = SMALL | {"image_processor_type": "VideoLlavaImageProcessor"}

# (width, height): square, odd, tall, wide, one pixel wide, smaller than the crop
SIZES = [
    (28, 28),
    (29, 28),
    (28, 29),
    (31, 57),
    (57, 31),
    (640, 427),
    (101, 99),
    (1, 1),
    (1, 40),
    (40, 1),
    (3, 3),
    (3, 17),
    (17, 3),
    (2, 3),
    (27, 200),
    (13, 12),
]

CONFIGS = {
    "usual": SMALL,
    "legacy ints": {"size": 28, "crop_size": 28, "feature_extractor_type": "CLIPFeatureExtractor"},
    "crop smaller than edge": {"size": {"shortest_edge": 31}, "crop_size": 28},
    "crop larger than edge": {"size": {"shortest_edge": 21}, "crop_size": 28},
    "crop larger, odd": {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 28}},
    "crop not square": {"size": 28, "crop_size": {"height": 21, "width": 40}},
    "exact": {"size": {"height": 20, "width": 30}, "crop_size": [20, 30]},
    "exact, cropped": {"size": [40, 35], "crop_size": 28},
    "exact, no crop": {"size": {"height": 28, "width": 26}, "do_center_crop": False},
    "square by default": {"size": 28, "default_to_square": True, "do_center_crop": False},
    "no resize": {"do_resize": False, "crop_size": 28},
    "no rescale": SMALL | {"do_rescale": False},
    "no normalize": SMALL | {"do_normalize": False},
    "neither": SMALL | {"do_rescale": False, "do_normalize": False},
    "other rescale": SMALL | {"rescale_factor": 0.00392156862745098},
    "minus one to one": SMALL | {"image_mean": [0.5, 0.5, 0.5], "image_std": 0.5},
    "null flags": SMALL | {"do_resize": None, "do_rescale": None, "do_normalize": None},
    "no resize, null resample": SMALL | {"do_resize": False, "resample": None},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 48, "width": 40}},
    "old square size": {"use_square_size": True, "crop_size": 60},
    **{f"resample {code}": SMALL | {"resample": code} for code in range(4)},
}


def read(config: dict) -> ImagePreprocessor:
    return fixed_preprocessor(config, (2, 3))


def expected(config: dict, images: list[Image.Image]) -> np.ndarray:
    kind = LlavaImageProcessorPil if config.get("do_pad") else CLIPImageProcessorPil
    if "Siglip" in config.get("image_processor_type", ""):
        kind = SiglipImageProcessorPil
    return np.stack(kind(**config)(images)["pixel_values"]).astype(np.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_hugging_face(name: str) -> None:
    preprocess = read(CONFIGS[name])
    images = [picture(*size) for size in SIZES]
    found = preprocess.pixels(images)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.shape == (len(images), 3, preprocess.height, preprocess.width)
    np.testing.assert_array_equal(found, expected(CONFIGS[name], images))


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (336, 336), (1201, 300), (100, 90)])
def test_equals_hugging_face_at_full_size(size: tuple[int, int]) -> None:
    images = [picture(*size)]
    found = read(CLIP_336).pixels(images)
    np.testing.assert_array_equal(found, expected(CLIP_336, images))


@pytest.mark.parametrize("config", [SMALL, {"size": 21, "crop_size": 28}], ids=["equal", "larger"])
def test_llava_padding_equals_hugging_face(config: dict) -> None:
    config = {"do_pad": True, **config}
    preprocess = read({"image_processor_type": "LlavaImageProcessor", **config})
    assert preprocess.pad_to_square == (122, 116, 104)
    images = [picture(*size) for size in SIZES]
    np.testing.assert_array_equal(preprocess.pixels(images), expected(config, images))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_all_modes(mode: str) -> None:
    """Given directly, and through a file where a format holds the mode."""
    if mode in ("I;16", "F"):
        values = np.arange(37 * 45).reshape(37, 45)
        image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        source = picture(45, 37, "RGBA" if "A" in mode else "RGB")
        image = source.convert("RGB").quantize(50) if mode == "PA" else source.convert(mode)
        image = image.convert(mode)
    assert image.mode == mode
    preprocess = read(SMALL)
    np.testing.assert_array_equal(preprocess.pixels([image]), expected(SMALL, [image]))
    loaded = preprocess.pixels([load_image(image)])
    np.testing.assert_array_equal(loaded, expected(SMALL, [hf_load_image(image)]))


@pytest.mark.parametrize(
    "settings",
    [{"transparency": 3}, {"transparency": (0, 0, 0)}, *({"exif": value} for value in range(1, 9))],
    ids=str,
)
def test_files_with_transparency_or_orientation(settings: dict) -> None:
    image = picture(45, 37)
    image.paste((0, 0, 0), (0, 0, 20, 20))
    if "exif" in settings:
        exif = Image.Exif()
        exif[0x0112] = settings["exif"]
        settings = {"exif": exif}
    elif settings["transparency"] == 3:
        image = image.quantize(9)
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    reference = expected(SMALL, [hf_load_image(Image.open(file))])
    found = read(SMALL).pixels([load_image(file.getvalue())])
    np.testing.assert_array_equal(found, reference)


def test_absurdly_narrow_image_is_refused_before_it_grows() -> None:
    narrow = Image.new("RGB", (1, 10_000))
    for config in (CLIP_336, {"image_processor_type": "LlavaImageProcessor", "do_pad": True}):
        wide = narrow.resize((1, 30_000))
        with pytest.raises(ImageUnreadable, match=r"image 1 \(1 x 30000 pixels\).*too narrow"):
            read(config).pixels([Image.new("RGB", (9, 9)), wide])


def test_view_box() -> None:
    usual = read(CLIP_336)
    assert usual.view_box(336, 336) == (0, 0, 336, 336)
    assert usual.view_box(672, 336) == (168, 0, 504, 336)
    assert usual.view_box(480, 1280) == pytest.approx((0, 400, 480, 880))
    padded = read(CLIP_336 | {"image_processor_type": "LlavaImageProcessor", "do_pad": True})
    assert padded.view_box(600, 300) == pytest.approx((0, -150, 600, 450))
    larger = read({"size": 100, "crop_size": 150})
    assert larger.view_box(50, 50) == pytest.approx((-12.5, -12.5, 62.5, 62.5))
    stretched = read({"size": [28, 28], "do_center_crop": False})
    assert stretched.view_box(640, 100) == (0, 0, 640, 100)


@pytest.mark.parametrize("size", [(90, 60), (61, 97), (20, 31)])
@pytest.mark.parametrize("name", ["usual", "crop smaller than edge", "crop larger, odd", "exact"])
def test_view_box_is_what_is_seen(name: str, size: tuple[int, int]) -> None:
    """A ramp tells, by its value in the middle of the output, which place of the image it shows."""
    config = CONFIGS[name] | {"resample": 2, "do_rescale": False, "do_normalize": False}
    preprocess = read(config)
    for axis in (0, 1):
        places = np.arange(size[axis], dtype=np.float32) * 2
        ramp = np.broadcast_to(places if axis == 0 else places[:, None], size[::-1])
        image = Image.fromarray(np.repeat(ramp[..., None], 3, 2).astype(np.uint8))
        seen = preprocess.pixels([image])[0, 0]
        line = seen[seen.shape[0] // 2] if axis == 0 else seen[:, seen.shape[1] // 2]
        start, end = preprocess.view_box(*size)[axis::2]
        middle = len(line) // 2
        place = start + (middle + 0.5) * (end - start) / len(line)
        assert line[middle] / 2 + 0.5 == pytest.approx(place, abs=0.6)


def test_dict_round_trip() -> None:
    for config in (*CONFIGS.values(), LLAVA_PADDED, VIDEO_LLAVA):
        preprocess = read(config)
        data = json.loads(json.dumps(preprocess.to_dict()))
        assert ImagePreprocessor.from_dict(data) == preprocess
        assert (
            read_preprocessor(json.loads(json.dumps(write_preprocessor(preprocess)))) == preprocess
        )


GOOD = read(CLIP_336).to_dict()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"height": 0}, r"preprocessing\.height"),
        ({"height": True}, r"preprocessing\.height"),
        ({"height": 336.0}, r"preprocessing\.height"),
        ({"width": 10**9}, r"preprocessing\.width"),
        ({"resize": "longest_edge"}, r"preprocessing\.resize:"),
        ({"resize": []}, r"preprocessing\.resize:"),
        ({"resize": "exact"}, r"preprocessing\.resize_to"),
        ({"resize": "none"}, r"preprocessing\.resize_to"),
        ({"resize_to": [336, 336]}, r"preprocessing\.resize_to"),
        ({"resize_to": None}, r"preprocessing\.resize_to"),
        ({"resample": "box"}, r"preprocessing\.resample"),
        ({"resample": {}}, r"preprocessing\.resample"),
        ({"crop": 1}, r"preprocessing\.crop"),
        ({"crop": False}, r"preprocessing\.crop"),
        ({"pad_to_square": [0, 0, 256]}, r"preprocessing\.pad_to_square"),
        ({"pad_to_square": 0}, r"preprocessing\.pad_to_square"),
        ({"rescale": 0}, r"preprocessing\.rescale"),
        ({"rescale": float("nan")}, r"preprocessing\.rescale"),
        ({"mean": [0.5, 0.5]}, r"preprocessing\.mean"),
        ({"mean": 0.5}, r"preprocessing\.mean"),
        ({"std": [1.0, 0.0, 1.0]}, r"preprocessing\.std"),
        ({"std": [1.0, "1", 1.0]}, r"preprocessing\.std"),
        ({"grid": [0, 24]}, r"preprocessing\.grid"),
        ({"grid": 24}, r"preprocessing\.grid"),
        ({"sampling": 8}, r"preprocessing\.sampling"),
        ({"sampling": {"count": 0}}, r"sampling\.count"),
        ({"sampling": {"frames": 8}}, "unknown entry 'frames'"),
        ({"video_cls": None}, r"preprocessing\.video_cls"),
        ({"colour": 1}, "preprocessing: unknown entry 'colour'"),
    ],
    ids=str,
)
def test_manifest_is_read_strictly(change: dict, where: str) -> None:
    with pytest.raises(ManifestInvalid, match=where):
        ImagePreprocessor.from_dict(GOOD | change)


def test_manifest_of_another_shape() -> None:
    with pytest.raises(ManifestInvalid, match="entry 'mean' is missing"):
        ImagePreprocessor.from_dict({k: v for k, v in GOOD.items() if k not in ("mean", "std")})
    with pytest.raises(ManifestInvalid, match="an object is needed"):
        ImagePreprocessor.from_dict([1])
    with pytest.raises(ManifestInvalid, match=r"preprocessing\.mean"):
        ImagePreprocessor(**GOOD)  # lists are for JSON only


def test_defaults_are_those_of_hugging_face() -> None:
    preprocess, images = read({}), [picture(300, 250)]
    np.testing.assert_array_equal(preprocess.pixels(images), expected({}, images))
    assert preprocess.pixels([]).shape == (0, 3, 224, 224)


def test_an_image_is_one_tile() -> None:
    medium = read(CLIP_336)(picture(672, 336))
    assert medium.pixels.shape == (1, 3, 336, 336)
    assert (medium.kind, medium.grid, medium.span) == ("image", (2, 3), 6)
    assert medium.order.tolist() == medium.offsets[0].tolist() == list(range(6))
    assert medium.boxes.tolist() == [[168, 0, 504, 336]]
    assert medium.resample is None


def test_frames_of_video_llava_equal_hugging_face() -> None:
    """Its processor of images; that of videos needs torchvision, and rounds otherwise."""
    from transformers import VideoLlavaImageProcessor

    preprocess = read(VIDEO_LLAVA)
    assert preprocess.sampling is not None
    assert preprocess.sampling.count == 8
    frames = [picture(57, 31), picture(57, 31).transpose(Image.Transpose.ROTATE_180)]
    medium = preprocess.video(frames)
    theirs = VideoLlavaImageProcessor(**SMALL)(frames, return_legacy_image_output=False)
    np.testing.assert_array_equal(medium.pixels, np.stack(theirs["pixel_values"]))
    assert medium.kind == "video"
    # Seven tokens a frame: [CLS] and the grid.
    assert medium.order.tolist() == list(range(14))
    assert medium.span == 14
    assert medium.offsets.tolist() == [list(range(14))]
    assert SEPARATOR not in medium.order
    image = preprocess(frames[0])
    assert image.order.tolist() == list(range(6))
    np.testing.assert_array_equal(image.pixels[0], medium.pixels[0])


def test_which_frames_are_taken() -> None:
    for video, count in ((None, 8), ({**SMALL, "num_frames": 4}, 4)):
        preprocess = fixed_preprocessor(VIDEO_LLAVA, (2, 3), video=video)
        assert preprocess.sampling is not None
        assert preprocess.sampling.count == count
    with pytest.raises(ModelNotSupported, match="video processor that resizes, crops"):
        fixed_preprocessor(VIDEO_LLAVA, (2, 3), video={**SMALL, "crop_size": 20})


def test_videos_that_cannot_be() -> None:
    with pytest.raises(VideoNotSupported, match="does not support videos"):
        read(SMALL).video([picture(9, 9)])
    with pytest.raises(VideoUnreadable, match="no frames"):
        read(VIDEO_LLAVA).video([])
    with pytest.raises(VideoUnreadable, match=r"several sizes \(5 x 9, 9 x 9 pixels\)"):
        read(VIDEO_LLAVA).video([picture(9, 9), picture(5, 9)])


def test_a_preprocessor_of_an_unknown_kind_is_refused() -> None:
    for data in ([1], {"height": 1}, {"kind": 1}):
        with pytest.raises(ManifestInvalid, match="an entry 'kind' is needed"):
            read_preprocessor(data)
    with pytest.raises(ManifestInvalid, match=r"preprocessing.kind: 'old' is unknown; known"):
        read_preprocessor({"kind": "old"})
