"""What a Hugging Face model folder says besides its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import (
    LfsPointer,
    ModelFileMissing,
    ModelNotSupported,
    OptionInvalid,
    TokenMissing,
)
from ...runtime.bundle.manifest import GenerationDefaults
from ...runtime.bundle.prompt import PromptLayout, VideoLayout
from ...runtime.chat.media import laid_out
from ..families import make_family
from ..families.base import MediaTexts, ProcessorFiles
from ..source.generation import generation_defaults, ignored_settings
from ..source.lfs import refuse_pointer
from ..source.originals import check_original
from ..source.prompt_layout import prompt_layout, video_open
from ..source.quantized_source import check_quantized


class ModelFolder:
    """Configuration, tokenizer, chat template and preprocessing of a model.

    Raises:
        ModelNotSupported: a family, or something in it, that cannot be exported.
        ModelFileMissing, LfsPointer: a file is missing or cannot be read.
        OriginalLayout, QuantizedModel: a form of the model that cannot be exported.
        TokenMissing: the tokenizer does not know the image token.
    """

    def __init__(self, folder: Path, layout: str | None = None) -> None:
        from transformers import AutoConfig, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.folder = folder
        described = self._json("config.json")
        check_original(described)
        check_quantized(described)
        check_quantized(self._json("hf_quant_config.json", optional=True))
        self.family = make_family(str(described.get("model_type")))
        self.config = self._load(AutoConfig, "config.json")
        self.family.check(self.config)
        if not (folder / "tokenizer.json").is_file():
            raise ModelFileMissing(
                folder,
                "tokenizer.json",
                "save the tokenizer with transformers (AutoTokenizer...save_pretrained) first",
            )
        refuse_pointer(folder / "tokenizer.json")
        self._tokenizer = self._load(AutoTokenizer, "tokenizer.json")
        if layout is not None and layout not in self.family.layouts:
            accepted = " or ".join(self.family.layouts)
            raise OptionInvalid(
                "layout",
                layout,
                f"{accepted} for a {self.family.name}"
                if accepted
                else f"no layout: {self.family.name} has only one",
            )
        self.preprocessing = self.family.preprocessing(self.config, self._processor_files(layout))
        self.prompt = self._prompt()

    def save_tokenizer(self, path: Path) -> None:
        """Write the tokenizer as transformers sets it up, as one tokenizer.json."""
        self._tokenizer.backend_tokenizer.save(str(path))

    def generation(self) -> GenerationDefaults:
        """What generation does when it is not told."""
        return generation_defaults(
            self._json("generation_config.json", optional=True),
            self.config.text_config.eos_token_id,
            self._tokenizer.eos_token_id,
        )

    @property
    def notes(self) -> list[str]:
        """What the folder holds and the bundle will not do."""
        found = []
        ignored = ignored_settings(self._json("generation_config.json", optional=True))
        if ignored:
            found.append(f"ignored in generation_config.json: {', '.join(ignored)}")
        if (self.folder / "adapter_config.json").is_file():
            found.append(
                "the adapter in the model folder is not applied: merge it first to include it"
            )
        return found

    def length(self, question: str, image: Image.Image) -> int:
        """Tokens of a question about one image, its own included."""
        media = laid_out([self.preprocessing(image)], self.prompt)
        text = self.prompt.render_turn(question, media.kinds, True, media.pieces)
        image_tokens = sum(len(part.order) for part in media.placed)
        return len(self._tokenizer.encode(text)) - len(media.placed) + image_tokens

    def _prompt(self) -> PromptLayout:
        template = self._chat_template()
        image_id = int(self.config.image_token_id)
        image_token = self._token(image_id, "image")

        def render(messages: list[dict[str, Any]]) -> str:
            try:
                text: str = self._tokenizer.apply_chat_template(
                    messages, chat_template=template, add_generation_prompt=True, tokenize=False
                )
            except Exception as error:  # a template is a program: it may raise anything
                raise ModelNotSupported(
                    f"a chat template that does not render ({error})",
                    ["turns of user and assistant, with images at the start of the user's turn"],
                ) from error
            return text

        layout = prompt_layout(render, image_token, image_id)
        texts = self.family.texts(self._tokenizer, image_token)
        return replace(
            layout,
            image_text=None if texts.image == image_token else texts.image,
            tiles=texts.tiles,
            video=self._video(render, texts, layout.text_open),
        )

    def _token(self, number: int, kind: str) -> str:
        """Text of a token that stands for an image or a video."""
        known = 0 <= number < len(self._tokenizer)
        token = self._tokenizer.convert_ids_to_tokens(number) if known else None
        ids = self._tokenizer.encode(token, add_special_tokens=False) if token else ()
        if token is None or number not in ids:
            raise TokenMissing(self.folder, kind, number, len(self._tokenizer))
        return str(token)

    def _video(
        self, render: Callable[[list[dict[str, Any]]], str], texts: MediaTexts, text_open: str
    ) -> VideoLayout | None:
        if self.preprocessing.sampling is None:
            return None
        frame, token = texts.frame, texts.video_token
        number = None if frame else int(self.config.video_token_id)
        if number is not None:
            token = token or self._token(number, "video")
        assert token is not None, "a family that names frames says what stands for a video"
        opening = video_open(render, token, text_open)
        return VideoLayout(open=opening, token=token, token_id=number, frame=frame)

    def _chat_template(self) -> str | None:
        """The processor's template where there is one, else the tokenizer's own (None)."""
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        for name in ("chat_template.json", "processor_config.json"):
            template = self._json(name, optional=True).get("chat_template")
            if isinstance(template, str):
                return template
        if getattr(self._tokenizer, "chat_template", None) is None:
            raise ModelFileMissing(self.folder, "chat template (chat_template.jinja)")
        return None

    def _processor_files(self, layout: str | None) -> ProcessorFiles:
        nested = self._json("processor_config.json", optional=True)
        image, video = nested.get("image_processor"), nested.get("video_processor")
        if not isinstance(image, dict):
            image = self._json("preprocessor_config.json")
        if not isinstance(video, dict):
            video = self._json("video_preprocessor_config.json", optional=True) or None
        model = self._json("config.json")
        return ProcessorFiles(model=model, image=image, video=video, layout=layout)

    def _json(self, name: str, optional: bool = False) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            if optional:
                return {}
            raise ModelFileMissing(self.folder, name)
        try:
            refuse_pointer(path)
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data, dict):
                raise ValueError("not an object")
        except LfsPointer:
            raise
        except ValueError as error:
            raise ModelFileMissing(self.folder, f"readable {name}", str(error)) from error
        return data

    def _load(self, auto: Any, name: str) -> Any:
        try:
            return auto.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many types here
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ModelFileMissing(self.folder, f"usable {name}", reason) from error
