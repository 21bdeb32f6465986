"""Write the trained models as ordinary checkpoint directories.

python -m experiments.pocket.export voice --voice DIR --decoder DIR --encoder DIR --quantiser FILE --out DIR
python -m experiments.pocket.export codec [--encoder DIR] [--decoder DIR] --quantiser FILE --out DIR
python -m experiments.pocket.export whisper --size base.en --run DIR --out DIR
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    CsmForConditionalGeneration,
    EncodecFeatureExtractor,
    GenerationConfig,
    MimiModel,
    PreTrainedTokenizerFast,
)

from experiments.pocket.codec import Decoder, Encoder, codec_config
from experiments.pocket.exported import exported_codec
from experiments.pocket.quantize import CODEBOOK_SIZE, SEMANTIC_DIMS, Quantiser
from experiments.pocket.train_voice import Trainee
from experiments.pocket.training import load_averaged
from experiments.pocket.voice import AUDIO, AUDIO_EOS, BOS, EOS, PAD, SPECIAL, build_tokenizer, voice_config

WEIGHTS = "model.safetensors"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% set types = message['content'] | map(attribute='type') | list %}"
    "{% if types | select('equalto', 'text') | list | length != 1 %}"
    "{{ raise_exception('every message needs exactly one text: give its words') }}{% endif %}"
    "{% if not loop.last and types | select('equalto', 'audio') | list | length != 1 %}"
    "{{ raise_exception('every message but the last needs exactly one audio: give its sound, or leave it out') }}"
    "{% endif %}"
    "{{ bos_token }}[{{ message['role'] }}]"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{{ eos_token }}"
    "{% elif part['type'] == 'audio' %}<|AUDIO|><|audio_eos|>{% endif %}{% endfor %}{% endfor %}"
)
"""Of transformers' processor. As upstream's, it refuses context without sound."""


def codec_tensors(encoder: Encoder, decoder: Decoder, codebooks: Tensor) -> dict[str, Tensor]:
    """Every tensor of transformers' MimiModel, by its name there."""
    out: dict[str, Tensor] = {"encoder.downsample.conv.weight": encoder.downsample.weight}
    for name, value in encoder.state_dict().items():
        if name.startswith("encoder."):
            out[f"encoder.encoder_seanet.{name.removeprefix('encoder.')}"] = value
        elif name.startswith("transformer."):
            out[f"encoder.encoder_transformer.{name.removeprefix('transformer.')}"] = value
    out["decoder.upsample.conv.weight"] = decoder.upsample
    for name, value in decoder.state_dict().items():
        if name.startswith("decoder."):
            out[f"decoder.decoder_seanet.{name.removeprefix('decoder.')}"] = value
        elif name.startswith("transformer."):
            out[f"decoder.decoder_transformer.{name.removeprefix('transformer.')}"] = value
    for kind, books in (("semantic", codebooks[:1]), ("acoustic", codebooks[1:])):
        base = f"quantizer.{kind}_residual_vector_quantizer"
        spoken = getattr(decoder, kind).weight.clone()
        if kind == "semantic":
            spoken[:, SEMANTIC_DIMS:] = 0  # only the row of the end of speech reaches there, and it must not be heard
        out[f"{base}.input_proj.weight"] = getattr(encoder, kind).weight[:, :, None]
        out[f"{base}.output_proj.weight"] = spoken[:, :, None]
        for i, book in enumerate(books):
            level = f"{base}.layers.{i}.codebook"
            out[f"{level}.embed_sum"] = book
            out[f"{level}.cluster_usage"] = torch.ones(CODEBOOK_SIZE)
            out[f"{level}.initialized"] = torch.ones(1)
    return out


def write_tokenizer(out: Path) -> None:
    """tokenizer.json and what transformers' CsmProcessor wants beside it."""
    characters = build_tokenizer()
    characters.post_processor = TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A {SPECIAL[EOS]}", special_tokens=[(SPECIAL[BOS], BOS), (SPECIAL[EOS], EOS)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=characters,
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        pad_token=SPECIAL[PAD],
        audio_token=SPECIAL[AUDIO],
        audio_eos_token=SPECIAL[AUDIO_EOS],
        chat_template=CHAT_TEMPLATE,
    )
    tokenizer.save_pretrained(out)
    EncodecFeatureExtractor(feature_size=1, sampling_rate=24_000).save_pretrained(out)


def say_float32(out: Path) -> None:
    """Write into config.json that the model computes in float32, as a CPU can; the weights stay float16.

    transformers 5 takes the type of computing from there, and feeds sound to the codec in float32.
    """
    path = out / "config.json"
    config = json.loads(path.read_text())
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def codec_of(encoder: Encoder, decoder: Decoder, codebooks: Tensor) -> MimiModel:
    """The codec as transformers has it, every tensor given."""
    codec = MimiModel(codec_config())
    wanted, given = codec.state_dict(), codec_tensors(encoder, decoder, codebooks)
    codec.load_state_dict({name: given[name].detach().reshape(wanted[name].shape) for name in wanted}, strict=True)
    left = set(given) - set(wanted)
    if left:
        raise RuntimeError(f"tensors that transformers' MimiModel does not know: {sorted(left)}")
    return codec


def export_voice(args: argparse.Namespace) -> None:
    """CSM and Mimi in one transformers directory, float16; ``--decoder`` may be an exported voice: its codec stays."""
    codebooks = Quantiser.load(args.quantiser).tensors["codebooks"]
    if (args.decoder / WEIGHTS).exists():
        encoder, decoder = exported_codec(args.decoder, args.quantiser)
    else:
        encoder, decoder = Encoder(codec_config()), Decoder(codec_config(), codebooks)
        load_averaged(decoder, args.decoder, "decoder")
    if args.encoder is not None:
        load_averaged(encoder, args.encoder, "encoder")
    codec = codec_of(encoder, decoder, codebooks)
    model = CsmForConditionalGeneration(voice_config())
    model.codec_model = nn.Module()
    trainee = Trainee(model, codebooks)
    load_averaged(trainee, args.voice, "trainee")
    model.codec_model = codec
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=args.temperature,
        top_k=args.topk,
        depth_decoder_do_sample=True,
        depth_decoder_temperature=args.depth_temperature,
        depth_decoder_top_k=args.topk,
        max_new_tokens=100,
        pad_token_id=PAD,
        bos_token_id=BOS,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(args.out)
    say_float32(args.out)
    write_tokenizer(args.out)
    names = load_file(args.out / WEIGHTS).keys()
    print(json.dumps({"tensors": len(names), "bytes": (args.out / WEIGHTS).stat().st_size}))


def export_codec(args: argparse.Namespace) -> None:
    """Put a newly trained encoder or decoder into an exported voice, whose other tensors stay."""
    encoder, decoder = exported_codec(args.out, args.quantiser)
    if args.encoder is not None:
        load_averaged(encoder, args.encoder, "encoder")
    if args.decoder is not None:
        load_averaged(decoder, args.decoder, "decoder")
    model = CsmForConditionalGeneration.from_pretrained(args.out, dtype=torch.float16)
    model.codec_model = codec_of(encoder, decoder, Quantiser.load(args.quantiser).tensors["codebooks"]).half()
    model.save_pretrained(args.out)
    say_float32(args.out)
    print(json.dumps({"bytes": (args.out / WEIGHTS).stat().st_size}))


def export_whisper(args: argparse.Namespace) -> None:
    """A CTranslate2 directory (int8) that plain faster-whisper loads."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperFeatureExtractor

    from experiments.pocket.whisper import EOT, SOT, WhisperTrainee, whisper_config

    trainee = WhisperTrainee(whisper_config(args.size))
    trainee.model.model.encoder.embed_positions.requires_grad_(False)
    load_averaged(trainee, args.run, "trainee")
    model, config = trainee.model, trainee.model.config
    heads = range(config.decoder_attention_heads)
    model.generation_config = GenerationConfig(
        bos_token_id=EOT, eos_token_id=EOT, pad_token_id=EOT, decoder_start_token_id=SOT, max_length=448
    )
    model.generation_config.suppress_tokens = []
    model.generation_config.begin_suppress_tokens = []
    model.generation_config.alignment_heads = [[config.decoder_layers - 1, head] for head in heads]
    tokenizer = Tokenizer.from_file(str(args.run / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
        ).save_pretrained(folder)
        WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
        converter = TransformersConverter(
            folder, copy_files=["tokenizer.json", "preprocessor_config.json"], load_as_float16=False
        )
        converter.convert(str(args.out), quantization="int8", force=True)
    (args.out / "csmkit.json").write_text(json.dumps({"short_windows": True, "window_s": 4.5}) + "\n")
    print(json.dumps({"bytes": sum(path.stat().st_size for path in args.out.iterdir())}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    voice = commands.add_parser("voice")
    for name in ("voice", "decoder", "quantiser", "out"):
        voice.add_argument(f"--{name}", type=Path, required=True)
    voice.add_argument("--encoder", type=Path, default=None)
    voice.add_argument("--temperature", type=float, default=0.3)
    voice.add_argument("--depth-temperature", type=float, default=0.1)
    voice.add_argument("--topk", type=int, default=50)
    voice.set_defaults(run_command=export_voice)
    codec = commands.add_parser("codec")
    for name, needed in (("quantiser", True), ("out", True), ("encoder", False), ("decoder", False)):
        codec.add_argument(f"--{name}", type=Path, required=needed, default=None)
    codec.set_defaults(run_command=export_codec)
    whisper = commands.add_parser("whisper")
    whisper.add_argument("--size", required=True)
    whisper.add_argument("--run", type=Path, required=True)
    whisper.add_argument("--out", type=Path, required=True)
    whisper.set_defaults(run_command=export_whisper)
    args = parser.parse_args()
    args.run_command(args)


if __name__ == "__main__":
    main()
