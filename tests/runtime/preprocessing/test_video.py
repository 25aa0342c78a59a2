"""Frames of videos, which PyAV writes here, against how transformers samples and reads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.video_utils import (
    VideoMetadata,
    default_sample_indices_fn,
    read_video_pyav,
)

from vtp.errors import ImageTooLarge, ImageUnreadable, ManifestInvalid, VideoUnreadable
from vtp.runtime.media.frame_sampling import FrameSampling
from vtp.runtime.media.video import read_frames

from .pictures import picture

av = pytest.importorskip("av", reason="PyAV is not installed")

FOUR = FrameSampling(count=4)


def written(path: Path, frames: int = 30, codec: str = "mpeg4", size: Any = (64, 48)) -> Path:
    """A video of ``frames`` at 10 per second, each of which differs from the others."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        base = np.asarray(picture(*size)) // 2
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray((base + number * 4).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("videos") / "made.mp4")


def theirs(path: Path, **asked: Any) -> tuple[np.ndarray, VideoMetadata]:
    frames, metadata = read_video_pyav(str(path), default_sample_indices_fn, **asked)
    return frames, metadata


@pytest.mark.parametrize("count", [1, 4, 7, 30])
def test_a_count_of_frames_equals_hugging_face(mp4: Path, count: int) -> None:
    found = read_frames(mp4, FrameSampling(count=count))
    frames, metadata = theirs(mp4, num_frames=count)
    assert found.indices.tolist() == metadata.frames_indices.tolist()
    assert found.fps == pytest.approx(metadata.sampled_fps)
    assert all(image.mode == "RGB" for image in found.images)
    np.testing.assert_array_equal(np.stack(list(map(np.asarray, found.images))), frames)


@pytest.mark.parametrize("fps", [0.2, 1.0, 2.5, 10.0])
def test_frames_per_second_equal_hugging_face(mp4: Path, fps: float) -> None:
    found = read_frames(mp4, FrameSampling(fps=fps))
    frames, metadata = theirs(mp4, fps=fps)
    assert found.indices.tolist() == metadata.frames_indices.tolist()
    np.testing.assert_array_equal(np.stack(list(map(np.asarray, found.images))), frames)


def test_all_ways_of_giving_a_file(mp4: Path) -> None:
    expected = np.stack(list(map(np.asarray, read_frames(str(mp4), FOUR).images)))
    data = mp4.read_bytes()
    file = io.BytesIO(data)
    file.seek(100)
    for source in (mp4, data, file):
        found = np.stack(list(map(np.asarray, read_frames(source, FOUR).images)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "mpeg4"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video"), ("a.gif", "gif")],
)
def test_other_containers(tmp_path: Path, name: str, codec: str) -> None:
    """Some of which do not say how many frames they hold."""
    path = written(tmp_path / name, codec=codec)
    found = read_frames(path, FOUR)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(expected) == 30
    assert found.indices.tolist() == [0, 7, 15, 22]
    for image, index in zip(found.images, found.indices, strict=True):
        np.testing.assert_array_equal(np.asarray(image), expected[index])


def test_images_are_taken_as_they_are() -> None:
    images = [picture(9, 7), picture(9, 7).convert("L")]
    found = read_frames(images, FrameSampling(count=1))
    assert [image.size for image in found.images] == [(9, 7), (9, 7)]
    assert [image.mode for image in found.images] == ["RGB", "RGB"]
    assert found.fps is None
    array = np.stack([np.asarray(picture(9, 7))] * 3)
    assert len(read_frames(array, FrameSampling(count=1)).images) == 3


def test_a_video_of_fewer_frames_than_asked_for_gives_all(tmp_path: Path) -> None:
    path = written(tmp_path / "short.mp4", frames=3)
    for sampling in (FOUR, FrameSampling(count=8, rule="middle"), FrameSampling(fps=2.0, least=4)):
        assert read_frames(path, sampling).indices.tolist() == [0, 1, 2]


def test_what_is_no_video_is_refused(mp4: Path, tmp_path: Path) -> None:
    def refused(source: Any, words: str, sampling: FrameSampling = FOUR) -> None:
        with pytest.raises(VideoUnreadable, match=words):
            read_frames(source, sampling)

    refused(tmp_path / "absent.mp4", r"absent\.mp4 cannot be read as a video: there is no such")
    refused(tmp_path, "it is a folder")
    refused("a\0b", "null")
    refused(b"", "damaged, or none of MP4")
    refused(b"no video at all, but long enough to look at" * 9, "none of MP4")
    refused([], "no frames")
    refused([picture(1, 1)] * 769, "769 frames; give at most 768")
    with pytest.raises(ImageUnreadable, match="frame 1 of the video"):
        read_frames([picture(2, 2), b"x"], FOUR)
    with pytest.raises(TypeError, match="int is not a video source"):
        read_frames(3, FOUR)  # type: ignore[arg-type]
    picture(64, 48).save(tmp_path / "still.png")
    refused(tmp_path / "still.png", "none of MP4")
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    refused(sound, "has no pictures")


def test_damaged_videos_are_refused(mp4: Path, tmp_path: Path) -> None:
    data = mp4.read_bytes()
    with pytest.raises(VideoUnreadable, match="damaged, or none of MP4"):
        read_frames(data[: len(data) // 2], FOUR)
    avi = written(tmp_path / "cut.avi").read_bytes()
    begins = [at for at in range(avi.index(b"movi"), len(avi)) if avi.startswith(b"00dc", at)]
    with pytest.raises(VideoUnreadable, match=r"^clip cannot .* damaged, or incomplete"):
        read_frames(avi[: begins[12] + 9], FOUR, name="clip")
    # Between two pictures, so that all that is there can be decoded.
    with pytest.raises(VideoUnreadable, match=r"it ends after 12 of 30 frames"):
        read_frames(avi[: begins[12]], FOUR)


def test_a_playlist_opens_no_other_file(mp4: Path, tmp_path: Path) -> None:
    """FFmpeg would follow it; the second is a format of which nothing else is on the list."""
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{mp4}'\n")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{mp4}\n#EXT-X-ENDLIST\n"
    )
    for name in ("list.ffconcat", "list.m3u8"):
        with pytest.raises(VideoUnreadable, match="none of MP4"):
            read_frames(tmp_path / name, FOUR)


def test_large_frames_are_refused_before_they_are_decoded(mp4: Path) -> None:
    with pytest.raises(ImageTooLarge, match=r"64 x 48 = 3,072 pixels.*limit of 3,000"):
        read_frames(mp4, FOUR, max_pixels=3000)
    big = np.broadcast_to(np.uint8(0), (30, 8000, 8000, 3))
    with pytest.raises(VideoUnreadable, match=r"30 frames of 8000 x 8000 .* take fewer frames"):
        read_frames(big, FOUR)


def test_without_pyav_the_extra_is_named(mp4: Path, run_script: Any) -> None:
    script = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'av' else find(name, *a)\n"
        "from vtp.runtime.media.frame_sampling import FrameSampling\n"
        "from vtp.runtime.media.video import read_frames\n"
        "from vtp.errors import MissingPackage\n"
        f"try: read_frames({str(mp4)!r}, FrameSampling(count=1))\n"
        "except MissingPackage as error: print(error)\n"
    )
    out = run_script(script).stdout
    assert out.strip() == (
        "reading a video file needs the package 'av', which is not installed: "
        "pip install 'vtp-toolkit[video]'"
    )


@given(st.integers(1, 3000), st.integers(1, 64))
def test_rules_are_hugging_faces(total: int, count: int) -> None:
    """The formulas of the video processors, whose modules need torchvision to be imported.

    Theirs may give a place behind the last frame, where ``read_video_pyav`` finds none.
    """
    if count > total:
        count = total
    metadata = VideoMetadata(total_num_frames=total, fps=10.0)
    start = FrameSampling(count=count).indices(total)
    assert start.tolist() == default_sample_indices_fn(metadata, num_frames=count).tolist()
    step = total / count
    middle = torch.arange(step / 2, total, step).int()
    middle = middle[middle < total]
    assert FrameSampling(count=count, rule="middle").indices(total).tolist() == middle.tolist()
    groups = torch.arange(0, total, step).int()
    groups = groups[groups < total]
    assert FrameSampling(count=count, rule="groups").indices(total).tolist() == groups.tolist()


@given(st.integers(2, 3000), st.floats(1, 60), st.floats(0.1, 8))
def test_groups_per_second_are_hugging_faces(total: int, rate: float, fps: float) -> None:
    """``sample_frames`` of Qwen2-VL's video processor, with its own limits."""
    most = min(768, total) // 2 * 2
    count = min(max(total / rate * fps, 4), most, total) // 2 * 2
    expected = torch.arange(0, total, total / count).int()
    expected = expected[expected < total]
    sampling = FrameSampling(fps=fps, rule="groups", group=2, least=4)
    assert sampling.indices(total, rate).tolist() == expected.tolist()


def test_samplings_that_cannot_be() -> None:
    for settings, words in (
        ({}, "a count of frames, or fps"),
        ({"count": 0}, "count"),
        ({"count": 769}, "count"),
        ({"fps": 0.0}, "fps"),
        ({"count": 1, "rule": "end"}, "one of start, middle, groups"),
        ({"count": 1, "group": 0}, "group"),
        ({"count": 1, "least": 5, "most": 4}, "most"),
    ):
        with pytest.raises(ManifestInvalid, match=words):
            FrameSampling(**settings)
    with pytest.raises(VideoUnreadable, match=r"clip .* does not say its frames per second"):
        FrameSampling(fps=1.0).indices(5, None, "clip")
    with pytest.raises(VideoUnreadable, match="no frames"):
        FOUR.indices(0)


def test_frames_are_copies_of_their_own(mp4: Path) -> None:
    first, second = read_frames(mp4, FrameSampling(count=2)).images
    assert isinstance(first, Image.Image)
    assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() > 20
