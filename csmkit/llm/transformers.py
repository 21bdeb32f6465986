"""Language models in transformers' layout, the bundled one among them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csmkit.checks import check_integer
from csmkit.errors import CheckpointError, CheckpointNotFoundError, DeviceMemoryError, InputError
from csmkit.files.hub import locate
from csmkit.llm.answer_sentences import Answer, AnswerSentences
from csmkit.llm.contract import LLM, EchoLLM, FakeLLM, Message, with_system
from csmkit.llm.prefix_cache import Prefix, PrefixCache, n_common

if TYPE_CHECKING:
    import torch

__all__ = ["LLM", "EchoLLM", "FakeLLM", "Message", "TransformersLLM"]


class TransformersLLM:
    """A causal language model in transformers' layout, with a chat template.

    If a conversation is longer than the model's positions, the oldest turns are left out as a whole; the system prompt
    is kept. A third of the positions is freed at once, so that the beginning of the prompt stays the same for some
    turns and is not read again. Several threads may stream at the same time.

    Where a checkpoint lists the sentences of its answers (``answer_sentences.txt``, as the bundled one does), only
    these are said, with words of the user where they have a place for some.

    Args:
        model: ``pocket`` for the bundled model, a directory, or a hub id, which is downloaded.
        system_prompt: system message before every conversation; empty for none.
        temperature: temperature of sampling, 0 to 10; 0 always takes the most probable token. None for the value of the
            checkpoint's generation_config.
        top_k: number of most probable tokens to sample from, at least 1; None for the checkpoint's, else 50.
        top_p: sample from the fewest tokens whose probabilities sum to at least this, in (0, 1]; None for the
            checkpoint's, else 1.
        max_new_tokens: largest number of tokens of an answer, at least 1.
        device: device of the model, such as ``cpu`` or ``cuda:0``; None for the GPU if there is one.
        dtype: dtype of the weights; None for float32 on the CPU and bfloat16 on a GPU.
        seed: seed of sampling; None draws a new one for each answer.
        prefix_caching: keep the keys and values of a prompt, so that the next turn reads only its new tokens and the
            time to the first word does not grow with the conversation. In float32 the answers do not depend on it. In
            bfloat16 rounding depends on which tokens are read together: turn it off where a seed must give the same
            words after any history.

    Attributes:
        model: the transformers model.
        tokenizer: tokenizer of the model, with a chat template.
        n_positions: largest number of tokens of a prompt and its answer together: the smaller of the config's
            ``max_position_embeddings`` and the tokenizer's ``model_max_length``.
        prefixes: kept prompts; None without ``prefix_caching``.
        answer_sentences: what the checkpoint lists; None if it lists none, or to say anything.

    Raises:
        CheckpointNotFoundError: the model does not exist, or may not be downloaded.
        CheckpointError: the checkpoint is not a causal language model with a chat template.
        DeviceError: the device does not exist.
        DeviceMemoryError: the device is too small for the model.
        InputError: an argument outside these ranges.
    """

    def __init__(
        self,
        model: str | Path = "pocket",
        *,
        system_prompt: str = "",
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        max_new_tokens: int = 128,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        seed: int | None = None,
        prefix_caching: bool = True,
    ) -> None:
        check_integer("max_new_tokens", max_new_tokens)
        if temperature is not None and not 0 <= temperature <= 10:
            raise InputError(f"temperature={temperature!r}: give a number from 0 (greedy) to 10")
        if (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
            raise InputError(f"top_k={top_k!r}, top_p={top_p!r}: give top_k of at least 1, top_p above 0 and up to 1")
        import torch

        from csmkit.machine import choose_device, out_of_memory

        self.device = choose_device(device)
        source, local = find(str(model))
        dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.bfloat16)
        self.model, self.tokenizer = _load(source, local, dtype)
        with out_of_memory(f"loading the language model on {self.device}"):
            self.model.to(self.device).eval()
        self.system_prompt = system_prompt
        self.max_new_tokens = max_new_tokens
        trained: int = self.model.config.get_text_config().max_position_embeddings
        self.n_positions = min(trained, self.tokenizer.model_max_length)  # about 1e30 where it is unknown
        if max_new_tokens >= self.n_positions:
            raise InputError(f"max_new_tokens={max_new_tokens}: the model has {self.n_positions} positions in all")
        config = self.model.generation_config
        own = (config.temperature or 1.0) if config.do_sample else 0.0
        self.temperature = own if temperature is None else temperature
        self.top_k: int = top_k or config.top_k or 50
        self.top_p: float = top_p or config.top_p or 1.0
        self._ends = _end_ids(self.tokenizer.eos_token_id) | _end_ids(config.eos_token_id)
        self._seed = seed
        self.prefixes = PrefixCache() if prefix_caching else None
        self.answer_sentences = AnswerSentences.of_checkpoint(source, self.tokenizer) if local else None
        self._n_tokens = lru_cache(maxsize=4096)(lambda text: len(self._tokens(text)))

    def warm_up(self) -> None:
        """Write one token of an answer and discard it, so that the first real call does not wait for allocations."""
        import torch

        self._next(self.prompt_ids([{"role": "user", "content": "Hello."}]), Prefix(), torch.Generator(self.device))

    def stream(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Answer a conversation, token by token; interface as in `LLM`.

        Raises:
            InputError: the last message alone is too long.
            DeviceMemoryError: the device is too small for the conversation.
        """
        import torch

        messages, ids = self._prompt(messages)
        noise = torch.Generator(self.device)  # one generator for each call: other threads do not change the draws
        _ = noise.seed() if self._seed is None else noise.manual_seed(self._seed)
        prefix = Prefix() if self.prefixes is None else self.prefixes.take(ids, self._n_head)
        try:
            so_far = self.answer_sentences and self.answer_sentences.begin(messages)
            yield from self._answer(ids[len(prefix.ids) :], prefix, noise, so_far)
        except torch.OutOfMemoryError as error:
            if self.prefixes is not None:
                self.prefixes.clear()
            raise DeviceMemoryError.during("the language model wrote", error) from error
        finally:
            if self.prefixes is not None:
                self.prefixes.keep(prefix)

    def _answer(
        self, feed: list[int], prefix: Prefix, noise: torch.Generator, so_far: Answer | None
    ) -> Generator[str, None, None]:
        answer: list[int] = []
        n_sent = 0
        for _ in range(self.max_new_tokens):
            token = self._next(feed, prefix, noise, so_far)
            if token in self._ends:
                break
            answer.append(token)
            if so_far:
                so_far.add(token)
            feed = [token]
            text = self.tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            # A character of several bytes is complete later, and so is a capital that is marked before its space.
            if len(text) > n_sent and not text.rstrip(" ").endswith("\ufffd"):
                yield text[n_sent:]
                n_sent = len(text)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The token ids that the model reads for a conversation; a long one loses its oldest turns.

        Raises:
            InputError: the last message alone is too long.
        """
        return self._prompt(messages)[1]

    def _prompt(self, messages: Sequence[Message]) -> tuple[list[Message], list[int]]:
        """The messages that are read of a conversation, and their token ids."""
        messages = with_system(self.system_prompt, messages)
        n_leading = next((n for n, message in enumerate(messages) if message["role"] != "system"), 0)
        system, messages = messages[:n_leading], messages[n_leading:]
        room = self.n_positions - self.max_new_tokens
        turns = turns_of(messages)
        for first in range(self._first_turn(system, turns, room), len(turns)):
            read = [*system, *(message for turn in turns[first:] for message in turn)]
            ids = self._rendered(read)
            if len(ids) <= room:
                return read, ids
        raise InputError(
            f"a message of {len(ids)} tokens, but {room} fit before an answer of {self.max_new_tokens}: "
            "shorten it, or lower max_new_tokens"
        )

    def _first_turn(self, system: Sequence[Message], turns: Sequence[Sequence[Message]], room: int) -> int:
        """Index of the oldest turn that is read.

        It depends on the messages alone: each turn that did not fit freed a third of the positions. So the beginning of
        the prompt seldom changes, and a conversation that was saved and loaded is cut at the same turn.
        """
        n_prompt, n_message = self._n_around

        def size(messages: Sequence[Message]) -> int:
            return sum(self._n_tokens(message["content"]) + n_message for message in messages)

        used, first = n_prompt + size(system), 0
        for last, turn in enumerate(turns):
            if used + size(turn[:1]) > room:
                while first < last and used + size(turn[:1]) > room * 2 // 3:
                    used -= size(turns[first])
                    first += 1
            used += size(turn)
        return first

    @cached_property
    def _n_around(self) -> tuple[int, int]:
        """Number of tokens that the chat template adds to a prompt, and to each of its messages; upper bounds."""
        one = [{"role": "user", "content": "a"}]
        n_one, n_text = len(self._rendered(one)), self._n_tokens("a")
        n_two = len(self._rendered([*one, {"role": "assistant", "content": "a"}, *one])) - n_one
        n_message = -(-n_two // 2) - n_text
        return max(0, n_one - n_text - n_message), n_message

    @cached_property
    def _n_head(self) -> int:
        """Number of tokens that all prompts have in common at their beginning."""
        prompts = (with_system(self.system_prompt, [{"role": "user", "content": text}]) for text in ("a", "b"))
        return n_common(*map(self._rendered, prompts))

    def _rendered(self, messages: Sequence[Message]) -> list[int]:
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return self._tokens(text)

    def _tokens(self, text: str) -> list[int]:
        # Not verbose: the tokenizer would warn about a long text, which is shortened afterwards.
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _next(self, ids: list[int], prefix: Prefix, noise: torch.Generator, so_far: Answer | None = None) -> int:
        """Read tokens and sample the next one. Inference mode ends here, since the caller may stop at any yield."""
        import torch

        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self.device)
            prefix.reading = True
            output = self.model(input_ids=tokens, past_key_values=prefix.cache, use_cache=True, logits_to_keep=1)
            prefix.cache = output.past_key_values
            prefix.ids += ids
            prefix.reading = False
            logits = output.logits[0, -1].float()
            if so_far:
                logits = so_far.restrict(logits)
            if self.temperature == 0:
                return int(logits.argmax())
            best = torch.topk(logits, min(self.top_k, len(logits)))
            weights = torch.softmax(best.values / self.temperature, dim=-1)
            weights[weights.cumsum(-1) - weights >= self.top_p] = 0.0  # keeps the first
            return int(best.indices[torch.multinomial(weights, 1, generator=noise)])


def turns_of(messages: Sequence[Message]) -> list[list[Message]]:
    """The turns of a conversation: each begins with a message of the user."""
    turns: list[list[Message]] = []
    for message in messages:
        if not turns or message["role"] == "user":
            turns.append([])
        turns[-1].append(message)
    return turns


def find(model: str) -> tuple[str, bool]:
    """The directory or hub id of a language model, and whether it is on this machine.

    Raises:
        CheckpointNotFoundError: the name is neither ``pocket``, nor a directory with a config.json, nor like a hub id.
    """
    place = locate(model, "language model")
    if isinstance(place, Path) and not (place / "config.json").is_file():
        cure = "give 'pocket', a directory in transformers' layout, or a hub id 'owner/name'"
        raise CheckpointNotFoundError(f"no language model in {model!r}, which has no config.json: {cure}")
    return str(place), isinstance(place, Path)


def _tokenizer(source: str, local: bool) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=local)
    except ValueError as error:
        if "TokenizersBackend" not in str(error):
            raise
        # transformers 4 does not know the class that 5 writes, but reads the same file as this one.
        return PreTrainedTokenizerFast.from_pretrained(source, local_files_only=local)


def _load(source: str, local: bool, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as notices

    shown = notices.is_progress_bar_enabled()
    if local:
        notices.disable_progress_bar()  # it is for downloads
    try:
        tokenizer = _tokenizer(source, local)
        model = AutoModelForCausalLM.from_pretrained(source, local_files_only=local, dtype=dtype)
    except OSError as error:
        remedy = "accept its licence on the model page and log in, check the network, or use 'pocket'"
        if local:
            remedy = "copy the missing file into the directory"
        raise CheckpointNotFoundError(f"cannot load the language model {source!r} ({error}): {remedy}") from error
    except (ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{source!r} is not a causal language model ({error}): give another directory") from error
    finally:
        if shown:
            notices.enable_progress_bar()
    if not tokenizer.chat_template:
        raise CheckpointError(f"the tokenizer of {source!r} has no chat template: give an instruction-tuned model")
    return model, tokenizer


def _end_ids(ids: int | list[int] | None) -> set[int]:
    if ids is None:
        return set()
    return set(ids) if isinstance(ids, list) else {ids}
