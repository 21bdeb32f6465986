"""Train the pocket voice (CSM architecture) on tokenised speech.

python -m experiments.pocket.train_voice --data DIR --codes DIR --out DIR --minutes 80
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CsmForConditionalGeneration

from experiments.pocket.exported import exported_voice
from experiments.pocket.quantize import CODEBOOK_SIZE, N_CODEBOOKS, Quantiser
from experiments.pocket.synthesize import PHONES, PHONES_PER_FRAME
from experiments.pocket.training import Averaged, Means, Muon, Run, device
from experiments.pocket.voice import (
    DIM,
    Batch,
    Lines,
    Sampler,
    build_tokenizer,
    make_batch,
    neighbour_targets,
    start_from_codebooks,
    voice_config,
)

DEPTH_SHARE = 0.25  # of the frames train the depth decoder
MAX_NOISE = 0.12  # share of input codes replaced, at most
DROPOUT = 0.05


class Trainee(nn.Module):
    """The voice with what only training needs: a phone head, label sharing, input noise."""

    def __init__(self, model: CsmForConditionalGeneration, codebooks: Tensor) -> None:
        super().__init__()
        self.model = model
        self.phone_head = nn.Linear(DIM, PHONES_PER_FRAME * len(PHONES))
        self.register_buffer("soft", neighbour_targets(codebooks), persistent=False)

    def noisy(self, codes: Tensor, rate: Tensor) -> Tensor:
        """Replace codes at ``rate``: half by a code that sounds alike, half by any code."""
        flip = torch.rand(codes.shape, device=codes.device) < rate
        index = torch.arange(N_CODEBOOKS, device=codes.device).expand_as(codes)
        weights = self.soft[:, :, :CODEBOOK_SIZE]
        chosen = weights[index[flip], codes[flip]]
        alike = torch.multinomial(chosen, 1)[:, 0] if len(chosen) else codes[flip]
        anything = torch.randint(1, CODEBOOK_SIZE, alike.shape, device=codes.device)
        out = codes.clone()
        out[flip] = torch.where(torch.rand(alike.shape, device=codes.device) < 0.5, alike, anything)
        return out

    def inputs(self, batch: Batch) -> Tensor:
        """``(batch, rows, dim)`` embeddings of text rows and (noisy) audio rows."""
        rate = torch.rand(len(batch.codes), 1, 1, device=batch.codes.device) * MAX_NOISE
        end = (batch.codes == 0).all(2, keepdim=True)
        codes = torch.where(end, batch.codes, self.noisy(batch.codes, rate.expand_as(batch.codes)))
        audio = self.model.backbone_model.embed_tokens(codes)
        text = self.model.embed_text_tokens(batch.text.clamp_min(0))
        rows = torch.where(batch.is_audio[..., None], audio, text * (batch.text >= 0)[..., None])
        return F.dropout(rows, DROPOUT, self.training)

    def soft_loss(self, logits: Tensor, codes: Tensor, book: int, end: Tensor) -> Tensor:
        """Cross-entropy with shared labels; ``(n, vocab)`` against ``(n,)``.

        The end of speech (where ``end``) shares nothing: it is only heard as one if every code of it is 0.
        """
        wanted = torch.where(end[:, None], F.one_hot(codes, logits.shape[1]), self.soft[book][codes])
        return -(wanted * F.log_softmax(logits.float(), 1)).sum(1).mean()

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss, and its parts for the log."""
        backbone = self.model.backbone_model(inputs_embeds=self.inputs(batch), use_cache=False).last_hidden_state
        hidden, target, phones = backbone[batch.speaks], batch.target[batch.speaks], batch.phones[batch.speaks]
        hidden = F.dropout(hidden, DROPOUT, self.training)
        logits = self.model.lm_head(hidden)
        first = self.soft_loss(logits, target[:, 0], 0, (target == 0).all(1))
        heard = self.phone_head(hidden).view(-1, len(PHONES)).float()
        phone = F.cross_entropy(heard, phones.flatten(), ignore_index=-100)
        keep = torch.rand(len(hidden), device=hidden.device) < (DEPTH_SHARE if self.training else 1.0)
        depth = self.depth_losses(hidden[keep], target[keep])
        loss = first + 2 * torch.stack(depth).mean() + 0.5 * phone
        with torch.no_grad():
            hard = F.cross_entropy(logits.float(), target[:, 0])
            parts = {"c0": hard, "phone": phone} | {f"c{i + 1}": v for i, v in enumerate(depth) if i in (0, 3, 6)}
        return loss, parts

    def depth_losses(self, hidden: Tensor, target: Tensor) -> list[Tensor]:
        """Soft cross-entropy of codebooks 1..7 given the ones before, ``(n, dim)`` and ``(n, codebooks)``."""
        decoder = self.model.depth_decoder
        rate = torch.rand(len(target), 1, device=target.device) * MAX_NOISE
        given, end = target[:, :-1], (target == 0).all(1)
        if self.training:
            given = self.noisy(target, rate.expand_as(target))[:, :-1]
            given = torch.where(end[:, None], target[:, :-1], given)
        offsets = torch.arange(N_CODEBOOKS - 1, device=target.device) * self.model.config.vocab_size
        embedded = decoder.model.embed_tokens(given + offsets)
        rows = torch.cat([hidden[:, None].to(embedded.dtype), embedded], 1)
        out = decoder.model(inputs_embeds=rows, use_cache=False).last_hidden_state[:, 1:]
        logits = torch.einsum("nkd,kdv->nkv", out, decoder.codebooks_head.weight.to(out.dtype))
        return [self.soft_loss(logits[:, k], target[:, k + 1], k + 1, end) for k in range(N_CODEBOOKS - 1)]


def optimisers(trainee: Trainee, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for the rest."""
    inside = [p for name, p in trainee.named_parameters() if ".layers." in name and p.ndim == 2]
    chosen = {id(p) for p in inside}
    rest = [p for p in trainee.parameters() if id(p) not in chosen]
    return [
        Muon(inside, lr=3e-3 * rate),
        torch.optim.AdamW(rest, lr=2e-3 * rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def untrained(codebooks: Tensor) -> CsmForConditionalGeneration:
    """A new model, whose codes begin alike where they sound alike."""
    # On a CPU the fused attention costs more, backwards, than plain products.
    model = CsmForConditionalGeneration._from_config(voice_config(), attn_implementation="eager")
    start_from_codebooks(model, codebooks)
    return model


@torch.no_grad()
def evaluate(trainee: Trainee, batches: list[Batch], where: torch.device) -> dict[str, float]:
    """Mean of every part of the loss on held-back batches."""
    trainee.eval()
    means = Means()
    for i, batch in enumerate(batches):
        _, parts = trainee(batch.to(where))
        means.add(1 / (i + 1), **{f"dev_{k}": v for k, v in parts.items()})
    trainee.train()
    return dict(means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--codes", type=Path, nargs="+", required=True)
    parser.add_argument("--quantiser", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--rows", type=int, default=1800, help="positions a step")
    parser.add_argument("--start-from", type=Path, default=None, help="an exported voice; its phone head is new")
    parser.add_argument("--rate", type=float, default=1.0, help="of the usual learning rates")
    args = parser.parse_args()
    torch.manual_seed(0)
    where = device()
    codebooks = Quantiser.load(args.quantiser).tensors["codebooks"]
    model = untrained(codebooks) if args.start_from is None else exported_voice(args.start_from)
    model.codec_model = nn.Module()  # trained elsewhere
    trainee = Trainee(model, codebooks).to(where).train()
    average = Averaged(trainee, 0.998)
    run = Run(args.out, args.minutes, {"trainee": trainee, "average": average}, optimisers(trainee, args.rate))
    torch.manual_seed(run.step)
    tokenizer = build_tokenizer()
    lines = Lines(args.data, args.codes)
    sampler = Sampler(lines, args.rows, context_share=0.2, seed=run.step)
    dev = Lines(args.data[-1:], args.codes[-1:], ("dev",)).lines
    dev_batches = [make_batch([[line] for line in dev[i : i + 16]], tokenizer) for i in range(0, min(len(dev), 96), 16)]
    means = Means()
    while True:
        run.set_rate(run.flat_then_linear())
        batch = make_batch(sampler.draw(), tokenizer).to(where)
        with torch.autocast(where.type, torch.bfloat16):
            loss, parts = trainee(batch)
        for optimiser in run.optimisers:
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for optimiser in run.optimisers:
            optimiser.step()
        average.update(trainee, run.step)
        means.add(**parts)
        if run.step % 50 == 0:
            run.log(lines=len(lines.lines), **means)
            lines.refresh()
        if run.step % 500 == 499 and dev_batches:
            run.log(**evaluate(trainee, dev_batches, where))
        if not run.tick():
            break


if __name__ == "__main__":
    main()
