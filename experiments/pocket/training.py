"""What the trainings share: a clock-driven schedule, checkpoints, averaged weights, and a log of JSON lines."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass
class Run:
    """A training of a given length in minutes that can be stopped and resumed.

    The learning rate follows the share of the minutes used, so one cosine (or line) always ends at the end. Only the
    time spent training counts.
    """

    out: Path
    minutes: float
    modules: dict[str, nn.Module]
    optimisers: list[torch.optim.Optimizer]
    save_every_s: float = 120.0
    step: int = 0
    spent_s: float = 0.0
    _last: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in self.optimisers]
        if self.path.exists():
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            for name, module in self.modules.items():
                module.load_state_dict(state[name])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.step, self.spent_s = state["step"], state["spent_s"]
            print(json.dumps({"resumed_at_step": self.step, "minutes": round(self.spent_s / 60, 1)}), flush=True)

    @property
    def path(self) -> Path:
        """The checkpoint, overwritten as training goes."""
        return self.out / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the minutes used, 0 to 1."""
        return min(self.spent_s / 60 / self.minutes, 1.0)

    def cosine(self, floor: float = 0.02, warmup: int = 100) -> float:
        """One cosine from 1 to ``floor`` with a short linear start."""
        return min(1.0, (self.step + 1) / warmup) * (floor + (1 - floor) * (1 + math.cos(math.pi * self.progress)) / 2)

    def flat_then_linear(self, flat: float = 0.3, floor: float = 0.02, warmup: int = 100) -> float:
        """1 until ``flat`` of the time, then a line down to ``floor``."""
        fall = max(self.progress - flat, 0) / (1 - flat)
        return min(1.0, (self.step + 1) / warmup) * (1 - (1 - floor) * fall)

    def set_rate(self, factor: float) -> None:
        """Every learning rate becomes its initial value times ``factor``."""
        for optimiser, rates in zip(self.optimisers, self.rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def tick(self) -> bool:
        """Count a step; save now and then; False when the minutes are used up (after a last save)."""
        now = time.monotonic()
        self.spent_s += now - self._last
        self._last = now
        self.step += 1
        done = self.spent_s >= self.minutes * 60
        if done or now - self._saved > self.save_every_s:
            self._saved = now
            self.save()
        return not done

    def save(self) -> None:
        """Write the checkpoint in one move."""
        state = {name: module.state_dict() for name, module in self.modules.items()}
        state |= {"optimisers": [o.state_dict() for o in self.optimisers], "step": self.step, "spent_s": self.spent_s}
        partial = self.path.with_suffix(".part")
        torch.save(state, partial)
        partial.rename(self.path)

    def log(self, **figures: float) -> None:
        """One JSON line to the standard output."""
        rounded = {k: round(float(v), 4) for k, v in figures.items()}
        print(json.dumps({"step": self.step, "min": round(self.spent_s / 60, 2), **rounded}), flush=True)


class Averaged(nn.Module):
    """Exponential moving average of a network's parameters; the exported weights are these."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.values = nn.ParameterList(
            [nn.Parameter(p.detach().clone(), requires_grad=False) for p in network.parameters()]
        )

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's parameters; faster in the first steps."""
        weight = 1 - min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.values), [p.detach() for p in network.parameters()], weight)

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Put the average into the network."""
        for parameter, value in zip(network.parameters(), self.values, strict=True):
            parameter.copy_(value)


def load_averaged(network: nn.Module, run: Path, name: str) -> None:
    """Put the averaged weights of a run's checkpoint into a network; ``name`` is its name among the run's modules."""
    state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
    average = Averaged(network)
    average.load_state_dict(state["average"])
    network.load_state_dict(state[name])  # buffers, and what does not train
    average.copy_to(network)


class Means(dict[str, float]):
    """Running means of named figures, for the log."""

    def add(self, weight: float = 0.02, **figures: float | Tensor) -> None:
        """Move each mean towards its new value."""
        for name, value in figures.items():
            number = float(value.detach() if isinstance(value, Tensor) else value)
            self[name] = self.get(name, number) * (1 - weight) + number * weight


def device() -> torch.device:
    """A GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def newton_schulz(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximately orthogonal ``(n, rows, columns)`` matrices with the same row and column spaces.

    Coefficients of Jordan's Muon (2024); bfloat16 is exact enough for a direction.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update matrices are orthogonalised; for the matrices inside transformer layers.

    Matrices of one shape are updated together.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float = 3e-3, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                gradients = torch.stack([p.grad for p in same])
                before = [self.state[p].setdefault("velocity", torch.zeros_like(p)) for p in same]
                velocity = torch.stack(before) * group["momentum"] + gradients
                update = newton_schulz(gradients + group["momentum"] * velocity)
                scale = -group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for p, v, new, u in zip(same, before, velocity, update, strict=True):
                    v.copy_(new)
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=scale)
