"""Observed: what a Quantizer with an observer has seen, and the scales that follow from it."""

import math
from typing import Any

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import Scaled, resolve
from lowprec.modes import ScaleRule
from lowprec.observers import Delayed, Observer
from lowprec.ops.scaling import grids_of
from lowprec.ops.statistics import scales_from

_STATISTIC = "statistic"


class Observed(torch.nn.Module):
    """The state of an observer: a buffer that is None until the first input, then keeps its shape.

    ``statistic`` is in float64 and stays so where the module's dtype is changed.
    """

    statistic: Tensor | None

    def __init__(self, observer: Observer, format: str) -> None:
        super().__init__()
        parsed = resolve(format)
        if not isinstance(parsed, Scaled):
            raise value_error("format", "be a scaled format where an observer is given", format)
        if parsed.scale_rule is ScaleRule.MSE:
            must = "have another scale rule than 'mse' where an observer is given"
            remedy = "That rule looks at every element of a group; so does the observer MeanSquaredError."
            raise value_error("format", must, format, remedy)
        self.observer = observer
        self._format, self._name = parsed, format
        self._nested = isinstance(parsed.scale, Scaled)
        self._last: Tensor | None = None
        self.register_buffer(_STATISTIC, None)

    def scales(self, x: Tensor) -> list[Tensor | None]:
        """The scales for ``x``, which is observed first in training; none for a tensor without values."""
        if x.numel() == 0 or x.is_meta:
            return []
        compiling = torch.compiler.is_compiling()
        if not compiling and torch._C._are_functorch_transforms_active():
            raise RuntimeError(
                "`observer` must be None under the transforms of torch.func: "
                "they cannot keep what it sees. Call lowprec.quantize with scale= there."
            )
        again = not compiling and torch._C._current_graph_task_id() >= 0  # within a backward
        with torch.no_grad():
            used = self._frozen(x) if not self.training else self._again(x) if again else self._observe(x)
            scales = scales_from(used, self._name)
        return [None, *scales] if self._nested else [*scales]

    def _frozen(self, x: Tensor) -> Tensor:
        """From what scales follow where nothing is observed."""
        if self.statistic is None:
            raise RuntimeError(
                "`observer` must have seen data before eval(). Call the Quantizer in training mode, "
                "under torch.no_grad() if only to calibrate, or load its state."
            )
        used = self.observer.statistic(self.statistic)
        self._check_grid(used, x)
        return used

    def _observe(self, x: Tensor) -> Tensor:
        """Update the state, and give that from which scales follow."""
        before = self.statistic
        if before is not None:
            self._check_grid(self.observer.statistic(before), x)
        current = self.observer.measure(x.detach(), self._name)
        if before is not None and current.dim() != before.dim() - self.observer.delayed:
            current = current.reshape(before.shape[self.observer.delayed :])  # of one group
        after = self.observer.update(before, current)
        used = self.observer.statistic(before if self.observer.delayed and before is not None else after)
        self._keep(after)
        if not torch.compiler.is_compiling():
            self._last = used
        return used

    def _again(self, x: Tensor) -> Tensor:
        """What was used last: within a backward a forward is run again by a checkpoint."""
        if self._last is None:
            raise RuntimeError(
                "`observer` must have seen data before the Quantizer is called within a backward, "
                "where it observes nothing. Call it in a forward first."
            )
        self._check_grid(self._last, x)
        return self._last

    def _keep(self, state: Tensor) -> None:
        """Make a state the buffer's."""
        if torch.compiler.is_compiling():
            self.statistic = state.clone()  # a graph must not change what a checkpoint in it reads again
            return
        if self.statistic is None:
            with torch.inference_mode(mode=False):  # else no call outside of it could update the state
                self.statistic = torch.empty(state.shape, dtype=state.dtype, device=state.device)
        self.statistic.copy_(state)

    def _check_grid(self, used: Tensor, x: Tensor) -> None:
        """Refuse an input whose groups are not those that were observed."""
        grid = grids_of(self._format, x.shape)[-1]
        seen = tuple(used.shape[:-1] if self._format.zero_point else used.shape)
        if seen != grid and not math.prod(seen) == math.prod(grid) == 1:
            must = f"have groups in the shape {seen} that was observed first"
            remedy = "Under PerTensor and PerChannel the groups do not change with the size of the batch."
            raise value_error("x", must, grid, remedy)

    def synchronize(self, group: Any = None) -> None:
        """See Quantizer.synchronize."""
        import torch.distributed as dist  # only here: it need not be there

        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "`synchronize` must be called where torch.distributed runs. "
                "Call torch.distributed.init_process_group first, in every process."
            )
        states: list[Tensor | None] = [None] * dist.get_world_size(group)
        dist.all_gather_object(states, self.statistic, group)
        shapes = [None if state is None else tuple(state.shape) for state in states]
        if self.statistic is None or len(set(shapes)) != 1:  # so on every process, and none waits
            raise RuntimeError(
                "`synchronize` must follow a call of the Quantizer on inputs with the same groups in every "
                f"process, got statistics of shapes {shapes}. None has seen nothing."
            )
        everyone = torch.stack([state for state in states if state is not None])
        if self.observer.averaged:
            largest = everyone.amax(0)  # the deviations from it cannot overflow when they are summed
            self.statistic.copy_(largest + ((everyone - largest) / len(states)).sum(0))
        else:
            self.statistic.copy_(everyone.amax(0))

    def _apply(self, fn: Any, recurse: bool = True) -> "Observed":  # noqa: FBT002 (torch's signature)
        """Move as every module does, but keep the dtype."""
        before = self.statistic
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.statistic
        if before is not None and after is not None and after.dtype != before.dtype:
            self.statistic = before.to(after.device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Take the shape of what is loaded where nothing was seen yet."""
        key, errors = prefix + _STATISTIC, rest[-1]
        if key in state_dict:
            loaded = state_dict[key]
            if problem := self._problem(loaded):
                errors.append(f"`{key}` must {problem}.")
                return
            if self.statistic is None:
                self.statistic = torch.empty_like(loaded, requires_grad=False)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _problem(self, loaded: Any) -> str:
        """Why something cannot be the statistic; empty if it can."""
        if not isinstance(loaded, Tensor) or loaded.dtype != torch.float64:
            return f"be a float64 tensor, got {loaded.dtype if isinstance(loaded, Tensor) else type(loaded)}"
        first = (self.observer.history,) if isinstance(self.observer, Delayed) else ()
        last = (2,) if self._format.zero_point else ()
        shape = tuple(loaded.shape)
        fits = len(shape) >= len(first + last) and shape[: len(first)] == first
        if not fits or shape[len(shape) - len(last) :] != last:
            return f"have a shape {(*first, ..., *last)}, got {shape}"
        if not (loaded.is_meta or (loaded.isfinite() & (loaded >= 0)).all()):
            return f"be finite and not negative, got {loaded}"
        return ""

    def extra_repr(self) -> str:
        """The observer."""
        return repr(self.observer)
