"""Videos: Video-LLaVA and LLaVA-OneVision against transformers, unpruned and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

import vtp
from vtp.errors import ImageCountMismatch, VideoNotSupported, VideoUnreadable

from .conftest import load_all, picture
from .library import InternVlLibrary, OneVisionLibrary, VideoLlavaLibrary

STEPS = 16
QUESTION = "where is the red circle?"
FRAMES = [picture(70, 50, seed=seed) for seed in range(5)]
COLUMN_MEAN = {"parameters": {"score": "column-mean"}}


@pytest.mark.parametrize("name", ["video_llava", "LanguageBind/Video-LLaVA-7B-hf"])
def test_video_llava_answers_as_transformers_does(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    library = VideoLlavaLibrary(model_folder(name))
    of_image = library.answer([FRAMES[0]], QUESTION, STEPS)
    of_video = library.answer_video(FRAMES, QUESTION, STEPS)
    for pipeline in load_all(bundle_of(name)).values():
        settings = {"keep": 1.0, "max_new_tokens": STEPS}
        assert list(pipeline.generate(FRAMES[0], QUESTION, **settings).tokens) == of_image
        result = pipeline.generate(vtp.Video(FRAMES), QUESTION, **settings)
        assert list(result.tokens) == of_video
        assert result.image_tokens == 5 * 17


@pytest.mark.parametrize("name", ["video_llava", "LanguageBind/Video-LLaVA-7B-hf"])
def test_video_llava_keeps_the_best_of_every_frame(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    """FasterVLM on videos: [CLS] attention of the frame's own tower, [CLS] itself goes."""
    library = VideoLlavaLibrary(model_folder(name))
    model = library.model
    layer = model.config.vision_feature_layer
    with torch.no_grad():
        tower = model.model.video_tower(library.frames(FRAMES)[0], output_attentions=True)
    scores = tower.attentions[layer][:, :, 0, 1:].mean(dim=1).tolist()
    features = library.video_features(FRAMES).reshape(len(FRAMES), 17, -1)
    rows = []
    for frame, row in enumerate(scores):
        best = sorted(sorted(range(16), key=lambda j, row=row: (-row[j], j))[:4])
        rows.append(features[frame][[1 + token for token in best]])
    embeds = library.embedded_video(torch.cat(rows), QUESTION)
    expected = library.continue_from(embeds, STEPS)
    for pipeline in load_all(bundle_of(name)).values():
        result = pipeline.generate(vtp.Video(FRAMES), QUESTION, keep=4, max_new_tokens=STEPS)
        assert list(result.tokens) == expected
        assert result.image_tokens == 4 * len(FRAMES)


@pytest.mark.parametrize("name", ["llava_onevision", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"])
def test_onevision_pools_frames(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    library = OneVisionLibrary(model_folder(name))
    whole = library.answer_video(FRAMES, QUESTION, STEPS)
    # Pruned: the attention that a patch receives, pooled as the tokens are.
    model = library.model
    with torch.no_grad():
        tower = model.model.vision_tower(library.frames(FRAMES)[0], output_attentions=True)
        received = tower.attentions[-1].mean(dim=(1, 2)).reshape(-1, 1, 4, 4)
        scores = interpolate(received, size=(2, 2), mode="bilinear").flatten(1).tolist()
    features = library.video_features(FRAMES)
    rows = []
    for frame, row in enumerate(scores):
        best = sorted(sorted(range(4), key=lambda j, row=row: (-row[j], j))[:2])
        rows += [features[frame * 4 + token] for token in best]
    rows.append(features[-1])  # the separator at the end
    embeds = library.embedded_video(torch.stack(rows), QUESTION)
    pruned = library.continue_from(embeds, STEPS)
    for pipeline in load_all(bundle_of(name, **COLUMN_MEAN)).values():
        for keep, expected in ((1.0, whole), (2, pruned)):
            video = vtp.Video(FRAMES)
            result = pipeline.generate(video, QUESTION, keep=keep, max_new_tokens=STEPS)
            assert list(result.tokens) == expected


@pytest.mark.parametrize("name", ["internvl", "OpenGVLab/InternVL3-1B-hf"])
def test_internvl_names_every_frame(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    library = InternVlLibrary(model_folder(name))
    pixels = library.images(FRAMES, crop_to_patches=False, return_tensors="pt")["pixel_values"]
    text = library.tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": QUESTION}]}],
        chat_template=library.template,
        add_generation_prompt=True,
        tokenize=False,
    )
    placeholders = "<IMG_CONTEXT>" * 16
    frames = [f"Frame{number + 1}: <img>{placeholders}</img>" for number in range(len(FRAMES))]
    ids = library.tokenizer(text.replace("<video>", "\n".join(frames)), return_tensors="pt")
    out = library.model.generate(**ids, pixel_values=pixels, max_new_tokens=STEPS, do_sample=False)
    expected = out[0, ids["input_ids"].shape[1] :].tolist()
    pipeline = vtp.load(bundle_of(name))
    result = pipeline.generate(vtp.Video(FRAMES), QUESTION, keep=1.0, max_new_tokens=STEPS)
    assert list(result.tokens) == expected


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A short video file of 12 frames."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(12):
            image = Image.new("RGB", (64, 48), (number * 20, 80, 200 - number * 10))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def test_a_file_is_asked_about_on_the_command_line(
    clip: Path, bundle_of: Callable[..., Path], vtp_process: Callable[..., object]
) -> None:
    bundle = bundle_of("video_llava")
    done = vtp_process(
        "run", bundle, "--video", clip, "--prompt", "what happens?", "--max-new-tokens", "4"
    )
    assert done.status == 0
    # Eight frames by the model, two tokens of each by the bundle's default.
    assert "kept 16 of 136 image tokens" in done.err
    fewer = vtp_process(
        *("run", bundle, "--video", clip, "--frames", "3", "--prompt", "what happens?"),
        *("--max-new-tokens", "1"),
    )
    assert "kept 6 of 51 image tokens" in fewer.err


def test_bad_videos_are_one_clear_error(
    tmp_path: Path, clip: Path, bundle_of: Callable[..., Path], tiny_bundle: Path
) -> None:
    pipeline = vtp.load(bundle_of("video_llava"))
    with pytest.raises(VideoUnreadable, match="no such file"):
        pipeline.generate(vtp.Video(tmp_path / "none.mp4"), QUESTION)
    with pytest.raises(VideoUnreadable, match="no frames"):
        pipeline.generate(vtp.Video([]), QUESTION)
    with pytest.raises(ImageCountMismatch):
        pipeline.generate(vtp.Video(FRAMES), "<image> what is it?")
    with pytest.raises(VideoNotSupported):
        vtp.load(tiny_bundle).generate(vtp.Video(FRAMES), QUESTION)


def test_images_and_videos_of_one_prompt_stand_where_the_question_says(
    bundle_of: Callable[..., Path],
) -> None:
    pipeline = vtp.load(bundle_of("video_llava"))
    given = [FRAMES[0], vtp.Video(FRAMES[:2])]
    result = pipeline.generate(given, "<image> and <video>?", keep=4, max_new_tokens=2)
    assert [len(kept) for kept in result.kept] == [4, 8]
    np.testing.assert_array_less(result.kept[1][:4], 17)
