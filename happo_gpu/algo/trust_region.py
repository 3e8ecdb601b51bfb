"""How an actor steps under TRPO: one natural-gradient step within a KL ball (HATRPO)."""
from __future__ import annotations

from typing import Callable, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from happo_gpu import distributed
from happo_gpu.algo.batch import ActorBatch
from happo_gpu.algo.sgd import mean_entropy
from happo_gpu.algo.surrogate import active_mean, probability_ratio
from happo_gpu.config.algo import AlgoConfig
from happo_gpu.nets.actor import Actor
from happo_gpu.nets.distributions import Categorical, Distribution, Gaussian
from happo_gpu.types import Stats

DAMPING = 0.1  # HARL's constants
CG_STEPS = 10
CG_TOLERANCE = 1e-10

Product = Callable[[Tensor], Tensor]  # v (P,) -> F v (P,)


class NaturalStep(NamedTuple):
    """The step that the linear objective and the quadratic KL would allow; vectors are (P,)."""

    gradient: Tensor
    direction: Tensor  # F^-1 gradient
    half_curvature: Tensor  # 0-d, direction . F direction / 2
    full_step: Tensor  # direction, scaled to the KL threshold
    expected_improve: Tensor  # 0-d


def trust_region_step(actor: Actor, batch: ActorBatch, cfg: AlgoConfig) -> Stats:
    """One step on the whole batch (HATRPO: Kuba et al., 2022); no entropy bonus.

    Every trial of the line search is computed and the first good one is taken by mask: asking the
    host whether to go on would stall a GPU for longer than the trials last. Over all ten that adds
    about a fifth to the step.
    """
    natural = natural_step(actor, batch, cfg)
    with torch.no_grad():
        old = batch.distribution(actor)
        return line_search(actor, batch, cfg, natural, old)


def objective(distribution: Distribution, batch: ActorBatch, cfg: AlgoConfig) -> Tensor:
    """Surrogate gain E[ratio * advantage] over active samples, 0-d: this process's part of a mean over processes."""
    ratio = probability_ratio(distribution.log_prob(batch.actions), batch.log_probs, cfg.action_aggregation)
    return active_mean(ratio * batch.advantage, batch.active if cfg.use_policy_active_masks else None) * batch.share_of(
        batch, cfg.use_policy_active_masks)


def natural_step(actor: Actor, batch: ActorBatch, cfg: AlgoConfig) -> NaturalStep:
    """Conjugate gradients on F x = g, scaled so that the quadratic KL is the threshold."""
    parameters = list(actor.parameters())
    gradient = distributed.mean(_flat(torch.autograd.grad(objective(batch.distribution(actor), batch, cfg), parameters)))
    product = fisher_product(actor, batch)
    direction = conjugate_gradient(product, gradient)
    half_curvature = 0.5 * (direction * product(direction)).sum()
    full_step = direction / torch.sqrt(half_curvature / cfg.trust_region.kl_threshold)
    return NaturalStep(gradient, direction, half_curvature, full_step, (gradient * full_step).sum())


def fisher_product(actor: Actor, batch: ActorBatch) -> Product:
    """v -> (F + damping) v, with F the Hessian of the mean KL between the policy and itself.

    The KL's gradient is built once and differentiated again for every v.
    """
    parameters = list(actor.parameters())
    new = batch.distribution(actor)
    divergence = _detached(new).kl_to(new).mean()
    gradient = _flat(torch.autograd.grad(divergence, parameters, create_graph=True))

    def product(vector: Tensor) -> Tensor:
        second = torch.autograd.grad((gradient * vector).sum(), parameters, retain_graph=True)
        return distributed.mean(_flat(second)) + DAMPING * vector  # damped, so that it can be inverted

    return product


def conjugate_gradient(product: Product, target: Tensor) -> Tensor:
    """Solves product(x) = target; stands still once the squared residual is below the tolerance."""
    x = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    squared = residual.dot(residual)
    running = torch.ones_like(squared, dtype=torch.bool)
    for _ in range(CG_STEPS):
        image = product(direction)
        step = torch.where(running, squared / direction.dot(image), torch.zeros_like(squared))
        x = x + step * direction
        residual = residual - step * image
        new_squared = residual.dot(residual)
        direction = torch.where(running, residual + new_squared / squared * direction, direction)
        squared = torch.where(running, new_squared, squared)
        running = running & (squared >= CG_TOLERANCE)
    return x


def line_search(
    actor: Actor, batch: ActorBatch, cfg: AlgoConfig, natural: NaturalStep, old: Distribution
) -> Stats:
    """Shrinks the step until the surrogate really improves within the threshold, else stays.

    Returns:
        Statistics of the accepted trial, or of the last one; ``trials`` counts the parameter sets
        tried, and one more where none was accepted.
    """
    limits = cfg.trust_region
    parameters = list(actor.parameters())
    start = _flat(parameters)
    before = distributed.mean(objective(old, batch, cfg))
    found = torch.zeros((), dtype=torch.bool, device=start.device)
    chosen, trials = start, torch.zeros((), device=start.device)
    stats: Stats = {}
    fraction = 1.0
    for _ in range(limits.ls_step):
        candidate = start + fraction * natural.full_step
        set_parameters(parameters, candidate)
        new = batch.distribution(actor)
        improve, kl = distributed.mean(objective(new, batch, cfg)) - before, distributed.mean(old.kl_to(new).mean())
        expected = fraction * natural.expected_improve
        good = (kl < limits.kl_threshold) & (improve / expected > limits.accept_ratio) & (improve > 0)
        seen = {"kl": kl.to(start.dtype), "loss_improve": improve, "expected_improve": expected,
                "entropy": mean_entropy(new, batch, cfg)}
        stats = {name: torch.where(found, stats.get(name, value), value) for name, value in seen.items()}
        trials = trials + (~found)
        chosen = torch.where(good & ~found, candidate, chosen)
        found = found | good
        fraction *= limits.backtrack_coeff
    set_parameters(parameters, chosen)
    stats["expected_improve"] = torch.where(found, stats["expected_improve"], fraction * natural.expected_improve)
    stats.update(a_loss=-stats["loss_improve"], trials=trials + (~found), accepted=found.to(start.dtype),
                 grad_norm=torch.linalg.vector_norm(natural.gradient))
    return stats


@torch.no_grad()
def set_parameters(parameters: Sequence[nn.Parameter], vector: Tensor) -> None:
    """Writes a flat vector (P,) into parameters, in place."""
    for parameter, part in zip(parameters, vector.split([p.numel() for p in parameters])):
        parameter.copy_(part.view_as(parameter))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) if tensor.is_leaf else tensor.reshape(-1) for tensor in tensors])


def _detached(distribution: Distribution) -> Distribution:
    if isinstance(distribution, Gaussian):
        return Gaussian(distribution.mean.detach(), distribution.std.detach())
    return Categorical(distribution.logits.detach(), distribution.choices, distribution.harl_joint)
