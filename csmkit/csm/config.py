"""Sizes of a CSM, how it is sampled, and one request; all frozen, and the only place where defaults live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csmkit.audio import FRAME_MS
from csmkit.csm.checks import is_finite, is_integer
from csmkit.csm.guards import ORDINARY, Guards, whole_frames
from csmkit.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from csmkit.csm.prompt import Segment

MIMI_CODEBOOK_SIZE = 2_048  # entries of each of Mimi's codebooks; CSM-1B's audio vocabulary holds three ids more


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretch of the rotary frequencies to longer contexts."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> RopeScaling | None:
        """Read ``rope_parameters`` or the older ``rope_scaling``; None where the frequencies are left alone.

        Raises:
            CheckpointError: a kind of scaling other than Llama 3's.
        """
        kind = values.get("rope_type", values.get("type", "default"))
        if kind == "default":
            return None
        if kind != "llama3":
            raise CheckpointError(f"rope scaling of type {kind!r}: a CSM checkpoint uses 'llama3' or 'default'")
        return cls(
            factor=float(values["factor"]),
            low_freq_factor=float(values["low_freq_factor"]),
            high_freq_factor=float(values["high_freq_factor"]),
            original_max_positions=int(values["original_max_position_embeddings"]),
        )


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one of the two stacks."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_dim: int
    max_positions: int
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        names = ("dim", "n_layers", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "max_positions")
        require_sizes({name: getattr(self, name) for name in names})
        if self.n_heads % self.n_kv_heads or self.head_dim % 2:
            raise CheckpointError(
                f"{self.n_heads} heads of {self.head_dim} with {self.n_kv_heads} key-value heads: "
                "the heads must be a multiple of the key-value heads, and their size even"
            )

    @property
    def group(self) -> int:
        """Query heads that share one key-value head."""
        return self.n_heads // self.n_kv_heads

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> TransformerConfig:
        """Read one stack of a transformers ``CsmConfig``; raises KeyError where a size is missing."""
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        n_heads = values["num_attention_heads"]
        return cls(
            dim=values["hidden_size"],
            n_layers=values["num_hidden_layers"],
            n_heads=n_heads,
            n_kv_heads=values.get("num_key_value_heads") or n_heads,
            head_dim=values.get("head_dim") or values["hidden_size"] // n_heads,
            ffn_dim=values["intermediate_size"],
            max_positions=values["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 500_000.0),
            rope_scaling=RopeScaling.from_transformers(rope),
            norm_eps=float(values.get("rms_norm_eps", 1e-5)),
        )


@dataclass(frozen=True)
class CsmConfig:
    """Sizes of a whole CSM.

    Attributes:
        audio_vocab: rows of the audio embedding for each codebook.
        codebook_size: codes the codec knows; ids from here to ``audio_vocab`` are never sampled.
    """

    backbone: TransformerConfig
    depth: TransformerConfig
    text_vocab: int
    audio_vocab: int
    n_codebooks: int
    codebook_size: int

    def __post_init__(self) -> None:
        names = ("text_vocab", "audio_vocab", "n_codebooks", "codebook_size")
        require_sizes({name: getattr(self, name) for name in names})
        if self.n_codebooks < 2 or not 1 < self.codebook_size <= self.audio_vocab:
            raise CheckpointError(
                f"{self.n_codebooks} codebooks of {self.codebook_size} codes in a vocabulary of {self.audio_vocab}: "
                "a CSM has at least 2 codebooks, none larger than the audio vocabulary"
            )

    @property
    def n_slots(self) -> int:
        """Slots of a prompt row: the codebooks, then the text."""
        return self.n_codebooks + 1

    @classmethod
    def from_transformers(cls, values: Mapping[str, Any]) -> CsmConfig:
        """Read the ``config.json`` of a transformers-format checkpoint.

        Raises:
            CheckpointError: another architecture, or a size that is missing.
        """
        if values.get("model_type") != "csm":
            raise CheckpointError(
                f"config.json has model_type {values.get('model_type')!r}: a voice needs 'csm', "
                "or in Sesame's form a backbone_flavor"
            )
        if values.get("attention_bias") or values.get("mlp_bias"):
            raise CheckpointError("config.json asks for biases in attention or MLP: CSM has none")
        try:
            audio_vocab = values["vocab_size"]
            codec = values.get("codec_config") or {}
            return cls(
                backbone=TransformerConfig.from_transformers(values),
                depth=TransformerConfig.from_transformers(values["depth_decoder_config"]),
                text_vocab=values["text_vocab_size"],
                audio_vocab=audio_vocab,
                n_codebooks=values["num_codebooks"],
                codebook_size=min(codec.get("codebook_size") or MIMI_CODEBOOK_SIZE, audio_vocab),
            )
        except KeyError as error:
            raise CheckpointError(f"config.json lacks {error}: save the checkpoint again with transformers") from error
        except (TypeError, ValueError, AttributeError) as error:  # a list or a word where a number or an object belongs
            raise CheckpointError(
                f"config.json has a value that cannot be read ({error}): fetch the file again"
            ) from error


def require_sizes(sizes: Mapping[str, object]) -> None:
    """Raise CheckpointError unless all are integers of at least 1."""
    for name, size in sizes.items():
        if not is_integer(size) or size < 1:
            raise CheckpointError(
                f"config.json gives {name}={size!r}: sizes are integers of at least 1, fetch it again"
            )


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn.

    Attributes:
        temperature: 0 is greedy; finite, not negative.
        topk: the most probable codes that stay in play, at least 1; more than a codebook holds means all.
        depth_scale: codebooks after the first are drawn at ``temperature * depth_scale``; finite, not negative.

    Raises:
        InputError: a value outside these ranges.
    """

    temperature: float = 0.9
    topk: int = 50
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("depth_scale", self.depth_scale)):
            if not is_finite(value) or value < 0:
                raise InputError(f"{name}={value!r}: give a finite number of at least 0; temperature 0 is greedy")
        if not is_integer(self.topk) or self.topk < 1:
            raise InputError(f"topk={self.topk!r}: give an integer of at least 1, such as 50")


@dataclass(frozen=True)
class Request:
    """One utterance to speak.

    Attributes:
        text: what is said; not blank.
        speaker: a non-negative integer that the voice was trained with.
        context: earlier turns, oldest first.
        sampling: how codes are drawn.
        max_audio_length_ms: the most audio, cut down to whole frames of 80 ms.
        seed: of the noise, in [0, 2**63); None draws a new one.
        guards: what else ends it before it ends by itself; they never change what comes before.

    Raises:
        InputError: a value outside these ranges.
    """

    text: str
    speaker: int = 0
    context: tuple[Segment, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    max_audio_length_ms: float = 8_000
    seed: int | None = None
    guards: Guards = ORDINARY

    def __post_init__(self) -> None:
        check_speaker(self.speaker)
        check_text(self.text)
        length = self.max_audio_length_ms
        if not is_finite(length) or length < FRAME_MS:
            raise InputError(f"max_audio_length_ms={length!r}: give at least one frame, {FRAME_MS} ms")
        if self.seed is not None and not (is_integer(self.seed) and 0 <= self.seed < 2**63):
            raise InputError(f"seed={self.seed!r}: give an integer in [0, 2**63), or None for a new one each time")
        if not isinstance(self.guards, Guards):
            kind = type(self.guards).__name__
            raise InputError(f"guards of type {kind}: give Guards(), with what you change, or Guards.off() for none")

    @property
    def max_frames(self) -> int:
        """The most frames this request may yield, guards apart: room for all of them is needed."""
        return whole_frames(self.max_audio_length_ms)


def check_speaker(speaker: object) -> None:
    """Raise InputError unless ``speaker`` is a non-negative integer."""
    if not is_integer(speaker) or speaker < 0:
        raise InputError(f"speaker={speaker!r}: give a non-negative integer such as 0 or 1")


def check_text(text: object) -> None:
    """Raise InputError unless ``text`` is a string with something to say."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"text={text!r}: give a sentence to speak")
