"""Speed from outside: compiles the methods of a simulator, a task and a learner that take most of the time.

Nothing that computes knows of this: accelerate=eager is the same program, slower. On a CPU lanes/ compiles, and keeps what it compiled
on disk; on CUDA torch.compile does.
"""
from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Iterable, List, Sequence, Set, Tuple

import torch

from happo_gpu import loops, threads
from happo_gpu.captured import Captured, tensors_of
from happo_gpu.config import ConfigError
from happo_gpu.lanes.chain import Link, chain
from happo_gpu.lanes.gather import gather, has_torchs_threads
from happo_gpu.lanes.kernel import FEWEST, Kernels, compiler

Hot = Tuple[Any, str, str]  # (object, attribute that is called, method that it calls)
Method = Callable[..., Any]
Compiler = Callable[[Sequence[torch.Tensor]], Method]  # the first call's arguments -> the compiled method

# Where a run has fewer of both, compiling costs more than it saves: some seconds, once for all runs of the same kind. With many
# environments it is arithmetic that takes the time; with few it is calls from Python, some milliseconds of every physics step.
_STEPS_WORTH_COMPILING = 500_000
_CALLS_WORTH_COMPILING = 2_000


def choose(mode: str, device: torch.device, env_steps: int, calls: int) -> str:
    """Resolves ``auto``: graph on a GPU, compile on a CPU that has g++, where the run is long enough.

    ``calls`` are physics steps and decisions, each of all environments at once.

    Raises:
        ConfigError: graph without a GPU.
    """
    if mode == "graph" and device.type != "cuda":
        raise ConfigError(f"accelerate=graph records CUDA graphs and the device is {device}; write accelerate=compile")
    if mode != "auto":
        return mode
    is_short = env_steps < _STEPS_WORTH_COMPILING and calls < _CALLS_WORTH_COMPILING
    if is_short or not hasattr(torch, "compile"):
        return "eager"
    if device.type == "cuda":
        return "graph"
    return "compile" if compiler() else "eager"


def compile_envs(functions: Iterable[Hot], num_envs: int) -> None:
    """Replaces each object's attribute by its method as one C++ loop over environments, kept on disk for any number of them.

    A method that does more than that stays as it is, with a warning; what it calls may still be compiled.
    """
    if num_envs >= FEWEST:
        _compile(functions, num_envs)


def compile_networks(functions: Iterable[Hot]) -> None:
    """Likewise methods whose arguments are samples, as one loop over samples, of which there may be any number."""
    _compile(functions, 0)


def _compile(functions: Iterable[Hot], num_envs: int) -> None:
    for owner, attribute, method in functions:
        eager = getattr(owner, method)
        setattr(owner, attribute, _with_fallback(owner, attribute, eager, lambda args, eager=eager: Kernels(eager, num_envs)))


def compile_steps(gradients: Any, adam: Any, fields: Sequence[torch.Tensor]) -> bool:
    """Replaces ``gradients.steps_plain`` by one call for all minibatches of an epoch: gradients, their norm and ``adam``'s step, in turn.

    Where that fails a warning says so; whether it has not, is returned.

    ``fields`` are samples laid out as those that it will be called with.
    """
    add, measure, step = (Kernels(method, 0) for method in (gradients._add_plain, adam.measure, adam.step))
    share, flat = torch.ones(()), adam.buffer

    def links(part: Sequence[torch.Tensor]) -> List[Link]:
        return [Link(add, [*part, share], True), Link(measure, [flat.flat], False),
                Link(step, [flat.weights, flat.flat, adam.first, adam.second], False)]

    def steps(*args: Any) -> None:
        *fields, num_parts, _ = args
        size = len(fields[0]) // num_parts
        adam.begin()
        chain(num_parts, links([field[:size] for field in fields]))
        adam.end(num_parts)

    try:
        for link in links(fields):
            link.kernels.of(link.args)
    except Exception as error:
        _warn(f"compiling steps of {type(gradients).__name__} failed, taking them eagerly", error)
        return False
    gradients.steps_plain = steps
    return True


def take_threads(number: int = 0) -> None:
    """So many threads, or those that torch has, for compiled code; for torch, too, if they are the same, else one: two pools would spin against each other."""
    if has_torchs_threads():
        torch.set_num_threads(number or threads.count())
    else:
        threads.take_over(number)


def fetch_on_all_threads(owner: Any) -> None:
    """Replaces ``owner.fetch``."""
    owner.fetch = _with_fallback(owner, "fetch", owner.fetch, lambda args: gather)


def compile_hot(functions: Iterable[Hot], num_envs: int, capture: bool = False) -> None:
    """Likewise by what torch.compile makes of it, at every start anew, in any number of environments.

    With ``capture`` the compiled method is recorded as a CUDA graph.
    """
    _prepare_compilers()
    for owner, attribute, method in functions:
        _mark_environment_axis(owner, num_envs)  # of all owners before any call: torch.compile also sees what one hands another
        eager = getattr(owner, method)

        def compile_(args: Sequence[torch.Tensor], eager: Method = eager) -> Method:
            return torch.compile(eager)

        setattr(owner, attribute, _with_fallback(owner, attribute, eager, _capturing(compile_, owner) if capture else compile_))


def capture(functions: Iterable[Hot]) -> None:
    """Records the methods as CUDA graphs, with all that they call, one for every shape of their arguments."""
    for owner, attribute, method in functions:
        eager = getattr(owner, method)
        setattr(owner, attribute, _with_fallback(owner, attribute, eager, _capturing(lambda args, eager=eager: eager, owner)))


def capture_steps(gradients: Any, adam: Any) -> None:
    """Replaces ``gradients.steps_plain`` by one CUDA graph for all minibatches of an epoch, ``adam``'s steps among them."""

    recorded: Dict[int, Captured] = {}  # by the number of minibatches

    def epoch(num_parts: int, *fields: torch.Tensor) -> None:
        for part in zip(*(field.chunk(num_parts) for field in fields)):
            gradients.accumulate_plain(part)
            adam.clip_and_step()

    def steps(*args: Any) -> None:
        *fields, num_parts, _ = args
        if num_parts not in recorded:
            recorded[num_parts] = Captured(functools.partial(epoch, num_parts), [gradients, adam])
        adam.begin()
        recorded[num_parts](*fields)
        adam.end(num_parts)

    gradients.steps_plain = _with_fallback(gradients, "steps_plain", gradients._steps_plain, lambda args: steps)


def _capturing(compile_: Compiler, owner: Any) -> Compiler:
    return lambda args: Captured(compile_(args), owner)


def _prepare_compilers() -> None:
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    # With symbolic sizes the cache of operator metadata costs more than it saves: a fifth of the tracing.
    dynamo.fake_tensor_cache_enabled = False
    # Small expressions become named buffers early; otherwise every output of a contact repeats the
    # whole chain that leads to it and compilation takes twice as long.
    inductor.realize_opcount_threshold, inductor.realize_reads_threshold = 12, 3


def _mark_environment_axis(owner: Any, num_envs: int) -> None:
    for tensor in tensors_of(owner, depth=2):
        for axis, size in enumerate(tensor.shape):
            if size == num_envs and num_envs > 16:  # small sizes could be another axis
                torch._dynamo.mark_dynamic(tensor, axis)


def _with_fallback(owner: Any, attribute: str, eager: Method, compile_: Compiler) -> Method:
    """Compiles at the first call; runs eagerly from then on if that or what came of it fails."""
    state = {"run": None}

    def call(*args: Any) -> Any:
        if loops.are_recorded():  # somebody compiles what calls this, and wants to see what it does
            return eager(*args)
        try:
            state["run"] = state["run"] or compile_(args)
            return state["run"](*args)
        except Exception as error:
            if state["run"] is eager:
                raise
            _warn(f"compiling {type(owner).__name__}.{eager.__name__} failed, running it eagerly", error)
            state["run"] = eager
            return eager(*args)

    return call


_warned: Set[str] = set()


def _warn(consequence: str, error: Exception) -> None:
    """Once per consequence: several functions fail alike."""
    if consequence not in _warned:
        _warned.add(consequence)
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        print(f"WARNING: {consequence}: {type(error).__name__}: {reason}", flush=True)
