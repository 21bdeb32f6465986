"""Trains the miniature Llama on the composed dialogues and writes an ordinary checkpoint directory.

python -m experiments.pocket.train_llm --data DIR --run DIR --out DIR --minutes 15

The same command resumes a training that was stopped. The checkpoint loads with plain transformers, without network.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from csmkit.llm.answer_sentences import CAPITAL, FILE
from experiments.pocket.text.dialogues import Composer
from experiments.pocket.training import Means, Muon, Run, device

BOS, END, HEADER, HEADER_END, TURN_END, PAD = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>",
)  # fmt: skip
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% if message['role'] == 'user' %}{{ ' ' + (message['content'] | trim | lower | replace('\u2019', \"'\")) }}"
    "{% else %}{{ message['content'] | trim }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""Llama 3's, but users are read in lower case with plain apostrophes: how they type does not change what they mean.

What they say begins with a space, so that a word has the same tokens wherever it stands, and can be copied.
"""
MISSING_SPACE = decoders.Replace(Regex(rf"(?<=[,.;:!?]){CAPITAL}(?=[a-z])"), f"{CAPITAL} ")
"""Writes the space that a model leaves out now and then between a mark and a name: some names begin with a token that
is a space alone, and at the start of an answer a capital has none."""
N_POSITIONS = 1536
"""The longest conversation trained on, in tokens; the exported files say it, and readers cut history there."""
N_TOKENS = 4096
"""How many tokens a new tokenizer is trained to; the rare ones go, and the token of a capital comes in addition."""
LEAST_SHARE = 5e-5
"""A token that is rarer among all tokens of the texts goes from a new tokenizer."""
COPIED_SHARE, COPIED_WEIGHT = 3e-4, 4.0
"""A word that is rarer among those of the answers, and that the user has said, is one to copy; its tokens count so much
in the loss, for they are few and the only ones that say whether a name is right."""
IGNORED = -100
SHORT = 512
"""Conversations of at most so many tokens have their attention computed in three products."""
TOKENS_PER_STEP = 3072
N_VALIDATION = 200


@dataclass(frozen=True)
class Example:
    """One dialogue.

    Attributes:
        ids: tokens.
        labels: the tokens of the answers to learn, ``IGNORED`` elsewhere.
        weights: how much each token counts in the loss.
    """

    ids: list[int]
    labels: list[int]
    weights: list[float]


def read_dialogues(path: Path) -> list[dict]:
    """The dialogues of a file, one JSON object a line."""
    with path.open() as file:
        return [json.loads(line) for line in file]


def mark_capitals(tokenizer: Tokenizer) -> None:
    """Read a capital as ``CAPITAL`` and the small letter, and write it back; "I" alone stays as it is.

    So a name has the same tokens in small letters and with its capital, and a model learns to copy names. Letters are
    read without accents, for the bytes of others hardly ever stand in the texts.
    """
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    alone = {letter: r"(?=[a-z])" if letter == "I" else "" for letter in letters}
    reads = [
        normalizers.Replace(Regex(f"{space}{letter}{alone[letter]}"), f"{CAPITAL}{space}{letter.lower()}")
        for space in (" ", "")
        for letter in letters
    ]
    writes = [
        decoders.Replace(f"{CAPITAL}{space}{letter.lower()}", f"{space}{letter}")
        for space in (" ", "")
        for letter in letters
    ]
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), *reads])
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), MISSING_SPACE, *writes])
    tokenizer.add_tokens([AddedToken(CAPITAL, normalized=True)])


def train_tokenizer(dialogues: list[dict], vocab_size: int = N_TOKENS) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the chat template; digits stay single, capitals are marked."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, END, HEADER, HEADER_END, TURN_END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f" {m['content'].lower()}" for d in dialogues for m in d["messages"]]
    tokenizer.train_from_iterator(texts, trainer)
    return with_template(without_rare_tokens(tokenizer, texts))


def without_rare_tokens(tokenizer: Tokenizer, texts: list[str]) -> Tokenizer:
    """The tokenizer without the merges whose tokens are less than ``LEAST_SHARE`` of all tokens of the texts.

    A model learns to copy only tokens that it has seen often; a rare name is then spelled with such.
    """
    counts = Counter(token for row in tokenizer.encode_batch(texts) for token in row.tokens)
    least = LEAST_SHARE * sum(counts.values())
    told = json.loads(tokenizer.to_str())
    merges, kept, needed = [tuple(pair) for pair in told["model"]["merges"]], [], set()
    for pair in reversed(merges):
        if counts["".join(pair)] >= least or "".join(pair) in needed:
            kept.append(pair)
            needed.update(pair)
    made = {"".join(pair) for pair in merges}
    tokens = [token for token in told["model"]["vocab"] if token not in made]
    tokens += ["".join(pair) for pair in reversed(kept)]
    told["model"] |= {"vocab": {token: n for n, token in enumerate(dict.fromkeys(tokens))}, "merges": kept[::-1]}
    return Tokenizer.from_str(json.dumps(told))


def with_template(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as an exported model has it, its capitals marked; where they are already, no id changes."""
    mark_capitals(tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=TURN_END, pad_token=PAD, chat_template=CHAT_TEMPLATE,
        model_max_length=N_POSITIONS, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def kept_tokenizer(folder: Path, dialogues: list[dict], start_from: Path | None) -> PreTrainedTokenizerFast:
    """The tokenizer a training began with; the first time, the given model's or a newly trained one.

    Args:
        folder: where the training keeps it.
        dialogues: what a new one is trained on.
        start_from: an exported model whose tokenizer is taken; None trains one.
    """
    if not (folder / "tokenizer.json").exists():
        file = start_from and str(start_from / "tokenizer.json")
        given = with_template(Tokenizer.from_file(file)) if file else train_tokenizer(dialogues)
        given.save_pretrained(folder)
    return with_template(Tokenizer.from_file(str(folder / "tokenizer.json")))


def encode(tokenizer: PreTrainedTokenizerFast, dialogues: list[dict]) -> list[Example]:
    """Tokens of dialogues; the labels are the answers whose message says ``learn``, each with its end of turn.

    A dialogue of more than ``N_POSITIONS`` tokens ends after the last turn that fits.
    """
    texts = [tokenizer.apply_chat_template(dialogue["messages"], tokenize=False) for dialogue in dialogues]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    header_end, turn_end = tokenizer.convert_tokens_to_ids([HEADER_END, TURN_END])
    examples = []
    for row, dialogue in zip(ids, dialogues, strict=True):
        ends = [position + 1 for position, token in enumerate(row) if token == turn_end]
        kept = row[: max((end for end in ends if end <= N_POSITIONS), default=0)]
        learn = [message["learn"] for message in dialogue["messages"]]
        examples.append(Example(kept, _labels(kept, learn, header_end, turn_end), []))
    starts = word_starts(tokenizer)
    examples = [example for example in examples if any(label != IGNORED for label in example.labels)]
    counts = Counter(word for example in examples for _, word, said in words(example, starts) if said)
    most = COPIED_SHARE * sum(counts.values())
    return [Example(e.ids, e.labels, copy_weights(e, starts, counts, most)) for e in examples]


def word_starts(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The tokens that begin a word: those with a space, a mark or no letter at all."""
    letters = re.compile(r"[a-z']+")
    return frozenset(number for token, number in tokenizer.get_vocab().items() if not letters.fullmatch(token))


def words(example: Example, starts: frozenset[int]) -> Iterator[tuple[int, tuple[int, ...], bool]]:
    """Each word of a dialogue: where it begins, its tokens, and whether it is of an answer to learn."""
    ids, begin = example.ids, 0
    for position in range(1, len(ids) + 1):
        if position == len(ids) or ids[position] in starts:
            yield begin, tuple(ids[begin:position]), example.labels[begin] != IGNORED
            begin = position


def copy_weights(example: Example, starts: frozenset[int], counts: Counter, most: float) -> list[float]:
    """``COPIED_WEIGHT`` for the tokens of words said at most so often in answers and before by the user; else 1."""
    weights, heard = [1.0] * len(example.ids), set()
    for begin, word, said in words(example, starts):
        if not said:
            heard.add(word)
        elif word in heard and counts[word] <= most:
            weights[begin : begin + len(word)] = [COPIED_WEIGHT] * len(word)
    return weights


def _labels(ids: list[int], learn: list[bool], header_end: int, turn_end: int) -> list[int]:
    labels, message, inside = [IGNORED] * len(ids), -1, False
    for position, token in enumerate(ids):
        if inside and learn[message]:
            labels[position] = token
        if token == header_end:
            message, inside = message + 1, True
        elif token == turn_end:
            inside = False
    return labels


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The miniature Llama with fresh weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=N_POSITIONS, rope_theta=10_000.0,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@torch.no_grad()
def widen_vocabulary(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give a model rows for the tokens that its tokenizer has gained; each begins as the mean of the others."""
    n_before = model.config.vocab_size
    if len(tokenizer) > n_before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        weight = model.get_input_embeddings().weight
        weight[n_before:] = weight[:n_before].mean(0)


@torch.no_grad()
def respell(model: LlamaForCausalLM, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> None:
    """Give a model another tokenizer; each new token begins as the mean of the old ones that spell it."""
    rows = model.get_input_embeddings().weight.clone()
    added, spell = old.get_added_vocab(), old.backend_tokenizer.model.tokenize
    model.resize_token_embeddings(len(new), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    for token, number in new.get_vocab().items():
        ids = [added[token]] if token in added else [piece.id for piece in spell(token)]
        weight[number] = rows[ids].mean(0)


@torch.no_grad()
def deepened(given: LlamaForCausalLM, n_layers: int) -> LlamaForCausalLM:
    """A model of more layers that says what ``given`` says: the new ones, between its own, begin by adding nothing.

    Raises:
        ValueError: fewer layers than it has.
    """
    n_given = given.config.num_hidden_layers
    if n_layers < n_given:
        raise ValueError(f"--layers {n_layers}: the model given has {n_given}, give as many or more")
    config = LlamaConfig.from_dict(given.config.to_dict() | {"num_hidden_layers": n_layers})
    model = LlamaForCausalLM(config)
    model.load_state_dict({k: v for k, v in given.state_dict().items() if ".layers." not in k}, strict=False)
    places = [(number + 1) * n_layers // n_given - 1 for number in range(n_given)]
    for place, layer in zip(places, given.model.layers, strict=True):
        model.model.layers[place].load_state_dict(layer.state_dict())
    for place in set(range(n_layers)) - set(places):
        model.model.layers[place].self_attn.o_proj.weight.zero_()
        model.model.layers[place].mlp.down_proj.weight.zero_()
    return model


def batches(examples: list[Example], pad: int, first_step: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless (ids, labels, weights) batches of examples of about the same length, shape (batch, positions)."""
    step = 0
    for epoch in range(10_000):
        rng = random.Random(epoch)
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].ids) + rng.random() * 8)
        groups, start = [], 0
        while start < len(order):
            count = max(1, TOKENS_PER_STEP // (len(examples[order[start]].ids) + 8))
            groups.append(order[start : start + count])
            start += count
        rng.shuffle(groups)
        for group in groups:
            step += 1
            if step > first_step:
                yield collate([examples[index] for index in group], pad)


def collate(examples: list[Example], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad on the right."""
    width = max(len(example.ids) for example in examples)
    ids = [example.ids + [pad] * (width - len(example.ids)) for example in examples]
    labels = [example.labels + [IGNORED] * (width - len(example.ids)) for example in examples]
    weights = [example.weights + [1.0] * (width - len(example.ids)) for example in examples]
    return torch.tensor(ids), torch.tensor(labels), torch.tensor(weights)


def causal_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: of short conversations in three products, of others by torch's kernel.

    On a CPU torch's kernel for causal attention is slow backwards: at 280 positions two and at 90 four times as slow.

    Args:
        module: the layer, not used.
        query: shape (batch, heads, positions, values); key and value have fewer heads.
        mask: not used; padding on the right needs none.
        scaling: what products of queries and keys are multiplied by.
    """
    n_rows, n_heads, n_positions, _values = query.shape
    key, value = (part.repeat_interleave(n_heads // part.shape[1], 1) for part in (key, value))
    if n_positions > SHORT or query.device.type != "cpu":
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None
    query, key, value = (part.flatten(0, 1) for part in (query, key, value))
    later = torch.full((n_positions, n_positions), -torch.inf, dtype=query.dtype).triu(1)
    scores = torch.baddbmm(later.expand(len(query), -1, -1), query, key.transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(-1), value).unflatten(0, (n_rows, n_heads)).transpose(1, 2).contiguous(), None


def answer_losses(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each of the answers' tokens; padding on the right needs no mask in a causal model."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = labels[:, 1:] != IGNORED
        logits = model.lm_head(hidden[wanted])
    return functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none")


def answer_weights(labels: Tensor, weights: Tensor) -> Tensor:
    """The weights that go with `answer_losses`."""
    return weights[:, 1:][labels[:, 1:] != IGNORED]


@torch.inference_mode()
def validation_losses(
    model: LlamaForCausalLM, examples: list[Example], pad: int, where: torch.device
) -> dict[str, float]:
    """Mean losses of examples never trained on: of all tokens of the answers, and of those to copy."""
    losses, weights = [], []
    for start in range(0, len(examples), 20):
        ids, labels, counted = (part.to(where) for part in collate(examples[start : start + 20], pad))
        losses.append(answer_losses(model, ids, labels))
        weights.append(answer_weights(labels, counted))
    all_losses, copied = torch.cat(losses), torch.cat(weights) > 1
    return {"held_out": float(all_losses.mean()), "copied": float(all_losses[copied].mean())}


def train(model: LlamaForCausalLM, examples: list[Example], held: list[Example], pad: int, run: Run) -> None:
    """Train for the run's minutes with one cosine."""
    where, means = device(), Means()
    for batch in batches(examples, pad, run.step):
        run.set_rate(run.cosine())
        ids, labels, weights = (part.to(where) for part in batch)
        weights = answer_weights(labels, weights)
        loss = (answer_losses(model, ids, labels) * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in run.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        means.add(loss=loss.detach())
        more = run.tick()
        if run.step % 200 == 0 or not more:
            run.log(**means, **validation_losses(model, held, pad, where))
        if not more:
            return


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the checkpoint directory in half precision, and the list of its sentences."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=0.2, top_p=0.95, top_k=50, max_new_tokens=80,
    )  # fmt: skip
    model.to("cpu", torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    sentences = Composer(random.Random(0), wordnet=None).answer_sentences()
    (out / FILE).write_text("\n".join(sentences) + "\n")
    path = out / "tokenizer_config.json"
    told = json.loads(path.read_text())
    told["tokenizer_class"] = "PreTrainedTokenizerFast"  # transformers 5 writes a name that 4 does not know
    path.write_text(json.dumps(told, indent=2) + "\n")


def main() -> None:
    """Parse the arguments, train, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="where dialogues.jsonl is")
    parser.add_argument("--run", type=Path, required=True, help="where the training keeps its checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint directory to write")
    parser.add_argument("--start-from", type=Path, default=None, help="an exported language model")
    parser.add_argument("--layers", type=int, default=None, help="at least as many as the exported model's; its own")
    parser.add_argument("--new-tokenizer", action="store_true", help="train one anew instead of the exported model's")
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual learning rates")
    parser.add_argument("--minutes", type=float, default=15.0)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    dialogues = read_dialogues(arguments.data / "dialogues.jsonl")
    given = arguments.start_from
    tokenizer = kept_tokenizer(arguments.run, dialogues, None if arguments.new_tokenizer else given)
    examples = encode(tokenizer, dialogues)
    model = LlamaForCausalLM.from_pretrained(given, dtype=torch.float32) if given else build_model(tokenizer)
    if given and arguments.layers:
        model = deepened(model, arguments.layers)
    if given and arguments.new_tokenizer:
        respell(model, PreTrainedTokenizerFast.from_pretrained(given), tokenizer)
    widen_vocabulary(model, tokenizer)
    AttentionInterface.register("causal", causal_attention)
    model.set_attn_implementation("causal")
    model.config.max_position_embeddings = N_POSITIONS
    model.to(device())
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    rate = arguments.rate
    optimisers = [
        Muon(matrices, lr=5e-3 * rate),
        torch.optim.AdamW(others, lr=3e-3 * rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    run = Run(arguments.run, arguments.minutes, {"model": model}, optimisers)
    n_values = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": n_values, "tokens": sum(len(e.ids) for e in examples)}), flush=True)
    train(model, examples[N_VALIDATION:], examples[:N_VALIDATION], tokenizer.pad_token_id, run)
    export(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
