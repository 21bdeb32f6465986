"""The bundled voice in transformers' documented examples of CSM, as they stand in its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, CsmForConditionalGeneration

from csmkit import Generator
from csmkit.csm.layouts import Checkpoint
from csmkit.csm.tokenizer import load_tokenizer
from csmkit.errors import CheckpointError
from csmkit.files.hub import find_voice
from csmkit.files.tensors import read_json

MODEL_ID = str(find_voice("pocket"))


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(MODEL_ID)


@pytest.fixture(scope="module")
def model() -> CsmForConditionalGeneration:
    model = CsmForConditionalGeneration.from_pretrained(MODEL_ID)
    assert model.dtype == torch.float32
    return model


def test_the_example_without_context_speaks(processor: Any, model: CsmForConditionalGeneration, tmp_path: Path):
    text = "[0]hello there."
    inputs = processor(text, add_special_tokens=True)
    conversation = [{"role": "0", "content": [{"type": "text", "text": "hello there."}]}]
    templated = processor.apply_chat_template(conversation, tokenize=True, return_dict=True)
    assert torch.equal(torch.as_tensor(inputs["input_ids"]), torch.as_tensor(templated["input_ids"]))
    voice = Checkpoint.open(find_voice("pocket"))
    ids = load_tokenizer(voice.directory, voice.config, voice.values).ids(0, "hello there.")
    assert torch.as_tensor(templated["input_ids"]).flatten().tolist() == ids, "as csmkit reads it"
    torch.manual_seed(0)
    audio = model.generate(**templated, output_audio=True, max_new_tokens=20)
    processor.save_audio(audio, tmp_path / "example_without_context.wav")
    assert (tmp_path / "example_without_context.wav").stat().st_size > 5_000


def test_the_example_with_context_speaks(processor: Any, model: CsmForConditionalGeneration, tmp_path: Path):
    sound = Generator.load("pocket", device="cpu").generate("good morning.", seed=1).numpy()
    conversation = [
        {"role": "0", "content": [{"type": "text", "text": "good morning."}, {"type": "audio", "path": sound}]},
        {"role": "1", "content": [{"type": "text", "text": "how are you?"}]},
    ]
    inputs = processor.apply_chat_template(conversation, tokenize=True, return_dict=True)
    audio = model.generate(**inputs, output_audio=True, max_new_tokens=12)
    processor.save_audio(audio, tmp_path / "example_with_context.wav")
    assert (tmp_path / "example_with_context.wav").stat().st_size > 1_000


def test_a_context_without_sound_is_refused_by_the_template(processor: Any):
    turns = [{"role": "0", "content": [{"type": "text", "text": text}]} for text in ("good morning.", "hello.")]
    with pytest.raises(Exception, match="audio"):
        processor.apply_chat_template(turns, tokenize=True, return_dict=True)


def test_a_voice_that_ends_with_another_code_is_refused():
    from csmkit.csm.config import CsmConfig

    values = read_json(Path(MODEL_ID) / "config.json")
    assert CsmConfig.from_transformers(values).n_codebooks == values["num_codebooks"]
    with pytest.raises(CheckpointError, match="codebook_eos_token_id=5: speech must end with a frame of zeros"):
        CsmConfig.from_transformers({**values, "codebook_eos_token_id": 5})
