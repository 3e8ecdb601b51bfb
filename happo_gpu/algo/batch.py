"""One actor's samples, and the minibatches that are drawn from them."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Union

import torch
from torch import Tensor

from happo_gpu.algo.surrogate import active_share
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.distributions import Distribution
from happo_gpu.nets.recurrent import Memory

# Rows of a forward and backward pass: activations of more leave a CPU's caches, and gradients add up to the same.
PIECE_ROWS = {"cpu": 4096, "cuda": 1 << 20}


def piece_sizes(num_rows: int, steps_per_row: int, device: torch.device) -> List[int]:
    """Sizes of the near-equal pieces that a minibatch of ``num_rows`` is worked off in."""
    pieces = -(-num_rows * steps_per_row // PIECE_ROWS[device.type])
    return [num_rows // pieces + (i < num_rows % pieces) for i in range(pieces)]


Fetch = Callable[[Tensor, Tensor], Tensor]


def fetch(table: Tensor, order: Tensor) -> Tensor:
    """The rows of (B, C) in this order."""
    return table.index_select(0, order)


class Table:
    """Fields of the same samples, (B, ...) each: those of floats lie side by side, so that fetching a sample touches memory once."""

    def __init__(self, fields: Sequence[Tensor], fetch: Fetch = fetch) -> None:
        self._fields, self._fetch = list(fields), fetch
        self._floats = [i for i, field in enumerate(fields) if field.dtype == torch.float32]
        columns = [fields[i].flatten(1) if fields[i].dim() > 1 else fields[i].unsqueeze(-1) for i in self._floats]
        self._sizes, self._table = [part.shape[1] for part in columns], torch.cat(columns, 1)

    def rows(self, order: Tensor) -> List[Tensor]:
        """The fields of samples in this order."""
        found = {i: part.view(len(order), *self._fields[i].shape[1:]) if part.shape[1] == 1 else part.unflatten(1, self._fields[i].shape[1:])
                 for i, part in zip(self._floats, self._fetch(self._table, order).split(self._sizes, 1))}
        return [found[i] if i in found else field.index_select(0, order) for i, field in enumerate(self._fields)]


@dataclass(frozen=True)
class ActorBatch:
    """Samples (B, ...) of an actor; of a recurrent one, B sequences of L steps, (B, L, ...).

    Agents that share the actor lie one after the other, B / num_agents each.
    """

    obs: Tensor  # (B, O_i)
    actions: Tensor  # (B, U_i)
    log_probs: Tensor  # (B, U_i) under the policy that acted
    advantage: Tensor  # (B,) normalised, times the importance factor
    available: Optional[Tensor] = None  # (B, C_i) bool
    active: Optional[Tensor] = None  # (B,) 1 or 0
    hidden: Optional[Tensor] = None  # (B, R, H) before a sequence
    first: Optional[Tensor] = None  # (B, L) bool
    num_agents: int = 1
    chunks: int = 1  # sequences that one environment's rollout is cut into

    @staticmethod
    def concatenate(batches: List["ActorBatch"]) -> "ActorBatch":
        if len(batches) == 1:
            return batches[0]
        tensors = {
            name: torch.cat([getattr(batch, name) for batch in batches]) for name in batches[0]._tensors()
        }
        return dataclasses.replace(batches[0], num_agents=len(batches), **tensors)

    def table(self, fetch: Fetch) -> Table:
        return Table([getattr(self, name) for name in self._tensors()], fetch)

    def shuffled(self, table: Table, order: Tensor) -> "ActorBatch":
        """The samples or sequences in ``order``, from the batch's ``table``."""
        return dataclasses.replace(self, **dict(zip(self._tensors(), table.rows(order))))

    def parts(self, num_parts: int) -> Iterator["ActorBatch"]:
        """Equal parts, one after the other."""
        chunks = {name: getattr(self, name).chunk(num_parts) for name in self._tensors()}
        for part in range(num_parts):
            yield dataclasses.replace(self, **{name: parts[part] for name, parts in chunks.items()})

    def pieces(self) -> Iterator["ActorBatch"]:
        """Parts that fit a cache."""
        sizes = piece_sizes(self.obs.shape[0], 1 if self.hidden is None else self.obs.shape[1], self.obs.device)
        if len(sizes) == 1:
            yield self
            return
        parts = {name: getattr(self, name).split(sizes) for name in self._tensors()}
        for i in range(len(sizes)):
            yield dataclasses.replace(self, **{name: part[i] for name, part in parts.items()})

    def share_of(self, piece: "ActorBatch", masked: bool) -> Union[Tensor, float]:
        """A piece's weight in means over this batch: its share of the samples, or of the active ones if ``masked``."""
        if masked and self.active is not None:
            return active_share(piece.active, self.active)
        return piece.obs.shape[0] / self.obs.shape[0]

    @property
    def is_plain(self) -> bool:
        """Whether it is without memory, menus and deaths."""
        return self.available is None and self.active is None and self.hidden is None

    def with_advantage(self, advantage: Tensor) -> "ActorBatch":
        return dataclasses.replace(self, advantage=advantage)

    def distribution(self, actor: Actor) -> Distribution:
        """The actor's distribution at every sample."""
        memory = None if self.hidden is None else Memory(self.hidden, self.first)
        return actor.distribution(self.obs, self.available, memory)

    def uncut(self) -> "ActorBatch":
        """Sequences joined to whole rollouts, (B / chunks, L * chunks, ...).

        Memory then runs on from the rollout's first step instead of the states that were recorded
        at each chunk's start under the policy that acted.
        """
        if self.hidden is None or self.chunks == 1:
            return self
        joined = {
            name: getattr(self, name).reshape(-1, self.chunks * self.obs.shape[1], *getattr(self, name).shape[2:])
            for name in self._tensors() if name != "hidden"
        }
        return dataclasses.replace(self, hidden=self.hidden[:: self.chunks], chunks=1, **joined)

    def _tensors(self) -> List[str]:
        return [f.name for f in dataclasses.fields(self) if isinstance(getattr(self, f.name), Tensor)]


@torch.no_grad()
def whole_log_probs(actor: Actor, batch: ActorBatch) -> Tensor:
    """Log-probabilities of all the batch's actions under the actor as it is now, (B, [L,] U_i)."""
    if not batch.is_plain:
        log_probs = [piece.distribution(actor).log_prob(piece.actions) for piece in batch.uncut().pieces()]
        return torch.cat(log_probs).reshape(*batch.actions.shape[:-1], -1)
    of_actions = [torch.empty_like(piece.log_probs) for piece in batch.pieces()]
    for piece, log_probs in zip(batch.pieces(), of_actions):
        actor.write_log_probs(piece.obs, piece.actions, log_probs)
    return torch.cat(of_actions)


def epoch_order(num_samples: int, num_parts: int, num_agents: int, device: torch.device) -> Tensor:
    """Indices of one epoch, minibatch after minibatch: every agent's samples in an order of their own.

    As in HARL a remainder of num_samples / num_parts is left out of the epoch.
    """
    size = num_samples // num_parts
    orders = [torch.randperm(num_samples, device=device)[: size * num_parts] for _ in range(num_agents)]
    if num_agents == 1:
        return orders[0]
    return torch.cat([a * num_samples + order.view(num_parts, size) for a, order in enumerate(orders)], 1).flatten()
