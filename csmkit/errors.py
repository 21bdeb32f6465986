"""The exceptions csmkit raises on purpose.

Each leaf also inherits the builtin a caller would expect, so that ``except ValueError`` works too::

    CsmkitError
    ├── InputError (ValueError)                a parameter, text, audio or context that cannot be used
    │   └── ContextOverflowError               prompt and answer together exceed the model's positions
    ├── CheckpointError (RuntimeError)         a checkpoint that is corrupt, partial or of the wrong architecture
    │   ├── CheckpointNotFoundError (FileNotFoundError)
    │   └── CheckpointWriteError (OSError)     a directory that cannot be written, or a full disk
    ├── AudioFileError (OSError)               a sound file that cannot be read or written
    ├── ResultsError (OSError)                 a folder of results that cannot be read or written, or that is in use
    ├── MissingDependencyError (ImportError)   an optional package that is not installed
    ├── PluginError (LookupError)              no plugin of that kind and name
    ├── DeviceError (RuntimeError)             a device that does not exist or cannot be used
    │   └── DeviceMemoryError (MemoryError)    a device that is out of memory
    ├── NotFiniteError (FloatingPointError)    a model computed NaN or an infinite number
    ├── CapacityError (RuntimeError)           more streams at once than a shared generator takes
    ├── StateError (RuntimeError)              a call in the wrong order, such as put after finish
    ├── LanguageModelError (RuntimeError)      the language model failed while answering
    └── TranscriptionError (RuntimeError)      the speech recogniser failed; ``__cause__`` says why

Every message says what was given, what is allowed and what to do.
"""


class CsmkitError(Exception):
    """Base of every error csmkit raises on purpose."""


class InputError(CsmkitError, ValueError):
    """A parameter, text, audio or context segment that cannot be used."""


class ContextOverflowError(InputError):
    """The prompt and the answer together exceed the positions of the model."""


class CheckpointError(CsmkitError, RuntimeError):
    """A checkpoint that is corrupt, partial or of another architecture."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint that does not exist, or that lacks a file."""


class CheckpointWriteError(CheckpointError, OSError):
    """A checkpoint that cannot be written to its directory."""


class AudioFileError(CsmkitError, OSError):
    """A sound file that cannot be read or written."""


class ResultsError(CsmkitError, OSError):
    """A folder of results that cannot be read or written, or that another sweep is writing."""


class MissingDependencyError(CsmkitError, ImportError):
    """An optional package that is not installed."""

    @classmethod
    def for_extra(cls, package: str, extra: str) -> "MissingDependencyError":
        """Name the missing package and the extra that installs it."""
        return cls(f"{package} is not installed; install it with: pip install 'csmkit[{extra}]'")


class PluginError(CsmkitError, LookupError):
    """No plugin of that kind and name."""


class DeviceError(CsmkitError, RuntimeError):
    """A device that does not exist or cannot be used."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A device that is out of memory."""

    @classmethod
    def during(cls, doing: str, error: BaseException) -> "DeviceMemoryError":
        """Say what ran out of memory, and what to lower."""
        reason = str(error).strip().splitlines()
        return cls(
            f"out of memory while {doing} ({reason[0] if reason else type(error).__name__}): lower max_audio_length_ms "
            "and context_turns, use a smaller Whisper such as tiny.en or run it on the CPU, and lower the memory "
            "fraction of other programs on that device (CSMKIT_MEMORY_FRACTION)"
        )


class NotFiniteError(CsmkitError, FloatingPointError):
    """A model computed NaN or an infinite number: what follows would not be speech."""

    @classmethod
    def in_frame(cls, frame: int, what: str, dtype: object) -> "NotFiniteError":
        """Say where it happened, and what usually causes it.

        Args:
            frame: number of the frame in the generation, from 1.
            what: what the frame holds, such as "codes".
            dtype: dtype of the weights, such as "torch.float16".
        """
        cause = "its weights are damaged, or belong to another model: fetch or convert the checkpoint again"
        if "float16" in str(dtype) and "bfloat16" not in str(dtype):
            cause = f"float16 numbers end at 65 504: load with dtype=torch.bfloat16 or torch.float32; or {cause}"
        return cls(f"the {what} of frame {frame} came from values that are not finite (dtype {dtype}): {cause}")


class CapacityError(CsmkitError, RuntimeError):
    """More streams at once than a shared generator takes: try again when one has ended."""


class StateError(CsmkitError, RuntimeError):
    """A call in the wrong order, such as audio after finish()."""


class LanguageModelError(CsmkitError, RuntimeError):
    """The language model failed while answering."""


class TranscriptionError(CsmkitError, RuntimeError):
    """The speech recogniser failed; its error is the cause."""
