"""Differences from recorded numbers, each against a tolerance of its own."""
from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple

import numpy as np
from torch import Tensor

# Quantity: (relative, absolute). Float32 leaves HARL itself, run again with two threads or with samples
# shuffled inside their minibatches, this far from its own numbers; each tolerance is about ten times that.
TOLERANCES: Dict[str, Tuple[float, float]] = {
    "params": (0.0, 2e-6),  # one update moves them by 2.5e-3
    "exp_avg": (0.0, 1e-6),
    "exp_avg_sq": (1e-4, 1e-8),
    "step": (0.0, 0.0),
    "gradient": (1e-4, 2e-6),
    "returns": (1e-5, 2e-6),
    "advantage": (1e-5, 2e-6),
    "n_step": (1e-5, 1e-5),  # sums of up to 30, added up in another order than HARL's
    "log_prob": (1e-5, 1e-5),
    "factor": (2e-5, 0.0),  # for one agent; a product of exponentials of sums
    "info": (1e-5, 1e-6),
    "valuenorm": (1e-6, 1e-9),
    "valuenorm_variance": (1e-6, 1e-6),
    # Conjugate gradients amplify rounding: HARL repeats its own factor on stale data to 2e-4 only.
    "trpo": (1e-3, 0.0),  # relative to the vector's largest entry
    "trpo_info": (1e-4, 1e-7),
    "trpo_log_prob": (1e-5, 5e-5),
    "trpo_factor": (1e-4, 0.0),
    "count": (0.0, 0.0),
}
OF_LARGEST = ("trpo",)


class Finding(NamedTuple):
    """One compared array."""

    where: str
    share: float  # of the tolerance that the worst entry uses; above 1 it fails
    error: float  # the largest difference over the largest recorded entry


class Report:
    """What has been compared so far."""

    def __init__(self) -> None:
        self.findings: List[Finding] = []

    def compare(self, kind: str, where: str, ours, theirs, times: float = 1.0) -> None:
        """Compares two arrays of as many entries; ``times`` widens the relative tolerance."""
        a = (ours.detach().cpu().numpy() if isinstance(ours, Tensor) else np.asarray(ours)).astype(np.float64).ravel()
        b = np.asarray(theirs).astype(np.float64).ravel()
        if a.shape != b.shape:
            raise ValueError(f"{where}: {a.size} numbers here, {b.size} recorded")
        relative, absolute = TOLERANCES[kind]
        size = np.abs(b).max(initial=0.0) if kind in OF_LARGEST else np.abs(b)
        allowed = relative * times * size + absolute
        difference = np.abs(a - b)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(difference == 0.0, 0.0, difference / allowed)
        worst = float(np.nan_to_num(share, nan=np.inf).max(initial=0.0))
        largest = max(np.abs(b).max(initial=0.0), 1e-12)
        self.findings.append(Finding(where, worst, float(difference.max(initial=0.0) / largest)))

    @property
    def worst(self) -> Finding:
        return max(self.findings, key=lambda finding: finding.share)

    @property
    def passed(self) -> bool:
        return self.worst.share <= 1.0

    def line(self, name: str) -> str:
        """One line for a person."""
        worst = self.worst
        largest = max(finding.error for finding in self.findings)
        return (f"{'pass' if self.passed else 'FAIL'}  {name:<40} {len(self.findings):4d} arrays, error <= {largest:.0e} of the "
                f"largest entry, <= {worst.share:.2f} of tolerance at {worst.where}")
