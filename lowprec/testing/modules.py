"""check_quantizer and check_optimizer: the same spirit for what trains."""

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec import reference
from lowprec.errors import type_error
from lowprec.formats import Format, resolve
from lowprec.modes import Rounding
from lowprec.ops.quantize import Spec
from lowprec.optim import LowPrecision
from lowprec.quantizer import Quantizer
from lowprec.testing.comparison import equal_tensors, on_grid, spread
from lowprec.testing.failure import Check, Report
from lowprec.testing.subjects import array_of, tensor_of

_SEED = 20


def check_quantizer(
    quantizer: Quantizer | Callable[[], Quantizer],
    *,
    shape: tuple[int, ...] = (8, 32),
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Report:
    """Verify a Quantizer: grids, gradients, determinism, and that it is saved and loaded.

    Under one ``torch.manual_seed`` the output and the gradient are those of the reference, with the words of
    the seed that is drawn: values of the format, straight through or by the rule, zero exactly where overflow
    fired under ``clip_gradient``, rounded to ``error``. Training and evaluation, copies, pickles and a loaded
    ``state_dict`` give the same bits. With an observer, whose scales are static, only the latter is checked,
    in ``eval()``.

    Args:
        quantizer: A Quantizer, which is copied, or a function that makes one.
        shape: The shape of the input.
        dtype: The carrier.
        compiled: Whether ``torch.compile`` must give the same bits, too.

    Returns:
        What was checked.

    Raises:
        FormatError: An AssertionError that names the first property that does not hold.
        TypeError: If ``quantizer`` is neither.

    Example:
        >>> print(check_quantizer(Quantizer("e4m3fn", clip_gradient=True)))  # doctest: +ELLIPSIS
        Quantizer(forward=e4m3fn nearest_even, clip_gradient): ... cases of ... properties
        ...
    """
    make: Any = (lambda: copy.deepcopy(quantizer)) if isinstance(quantizer, Quantizer) else quantizer
    made = make() if callable(make) else make
    if not isinstance(made, Quantizer):
        raise type_error("quantizer", "be a Quantizer or a function that makes one", type(made))
    report = Report(" ".join(str(made).split("\n")))
    check = Check(report, report.subject)
    spec, observed = made._spec, made.observed is not None
    format = None if spec is None else resolve(spec.format)
    x = tensor_of(spread(shape, format, _name(dtype), finite=observed), _name(dtype))
    incoming = tensor_of(np.random.default_rng(3).standard_normal(shape), _name(dtype))
    if observed:
        made(x)
        made.eval()
    else:
        _check_quantized(check, made, x, incoming, format)
    y, grad = _run(made, x, incoming)
    others = {"again": made, "deepcopy": copy.deepcopy(made), "in eval()": copy.deepcopy(made).eval()}
    loaded = make()
    loaded.load_state_dict(made.state_dict())
    others["state_dict"] = loaded.train(made.training)
    if made._gradient is None:  # a rule may be a function that no pickle knows
        others["pickle"] = pickle.loads(pickle.dumps(made))
    for how, other in others.items():
        again, grad_again = _run(other, x, incoming)
        equal_tensors(check, "same bits again and in copies", x, again, y, run=how)
        equal_tensors(check, "same gradients again and in copies", incoming, grad_again, grad, run=how)
    if compiled:
        again, grad_again = _run(torch.compile(made, fullgraph=True), x, incoming)
        equal_tensors(check, "compiled bits", x, again, y)
        equal_tensors(check, "compiled gradients", incoming, grad_again, grad)
    return report


def _check_quantized(
    check: Check, quantizer: Quantizer, x: Tensor, incoming: Tensor, format: Format | None
) -> None:
    """Output and gradient by the reference, and on their grids."""
    y, grad = _run(quantizer, x, incoming)
    torch.manual_seed(_SEED)
    seed = int(torch.empty(1, dtype=torch.int64).random_().item())
    want, fired = x, torch.zeros_like(x, dtype=torch.bool)
    if quantizer._spec is not None:
        want, fired = _referred(x, quantizer._spec, seed, 0)
        on_grid(check, "outputs are values of the format", y, format, x)
    equal_tensors(check, "outputs are the reference's", x, y, want)
    rule = quantizer._gradient
    passed = incoming if rule is None else rule(incoming, x, y)
    name = "gradients pass straight through" if rule is None else "gradients follow the rule"
    if quantizer._clip_gradient:
        passed, name = passed.masked_fill(fired, 0), "gradients are zero exactly where overflow fired"
    if quantizer._error is not None:
        source, name = passed, "gradients are rounded"
        passed, _ = _referred(passed, quantizer._error, seed, 1)
        on_grid(check, "gradients are values of the format", grad, resolve(quantizer._error.format), source)
    equal_tensors(check, name, x, grad, passed)


def _run(quantizer: Any, x: Tensor, incoming: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient under the one seed."""
    torch.manual_seed(_SEED)
    leaf = x.clone().requires_grad_()
    y = quantizer(leaf)
    torch.autograd.backward(y, incoming)
    grad = leaf.grad
    return y.detach(), torch.zeros_like(x) if grad is None else grad


def _referred(x: Tensor, spec: Spec, seed: int, stream: int) -> tuple[Tensor, Tensor]:
    """What the reference makes of a tensor, and where overflow fires."""
    rounding = Rounding(spec.rounding)
    options: dict[str, Any] = {}
    if rounding.is_stochastic:
        options["words"] = reference.random_words(seed, stream, tuple(x.shape))
    bits = spec.random_bits if rounding.takes_random_bits else None
    settings: dict[str, Any] = {
        "rounding": rounding,
        "random_bits": bits,
        "carrier": _name(x.dtype),
        **options,
    }
    array = array_of(x)
    y = torch.from_numpy(reference.quantize(array, spec.format, **settings)).to(x.dtype)
    return y, torch.from_numpy(reference.overflowed(array, spec.format, **settings))


def check_optimizer(make: Callable[[], tuple[torch.nn.Module, LowPrecision]], *, steps: int = 3) -> Report:
    """Verify a LowPrecision optimizer: grids, determinism, skipped steps, and that it is saved and copied.

    Stored weights are values of their format after construction and after every step, master weights, states
    and compensations of theirs, each group's by its own casts; two runs under one seed give equal bits; no
    step touches torch's generator. A step that a GradScaler skips changes nothing but the count of such
    steps. Saving, loading into another pair and stepping gives the bits of stepping on, in weights, states
    and all that is kept, and so does a deep copy. Gradients are random numbers.

    Args:
        make: Makes a model and its optimizer, the same under one ``torch.manual_seed``.
        steps: How many steps are taken before saving.

    Returns:
        What was checked.

    Raises:
        FormatError: An AssertionError that names the first property that does not hold.
        TypeError: If ``make`` makes anything else.

    Example:
        >>> def make():
        ...     model = torch.nn.Linear(4, 3)
        ...     inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        ...     return model, LowPrecision(inner, weight="fixed8f6", state="bfloat16")
        >>> print(check_optimizer(make))  # doctest: +ELLIPSIS
        LowPrecision over SGD: ... cases of ... properties
        ...
    """
    model, optimizer = _made(make, _SEED)
    check = Check(report := Report(f"LowPrecision over {type(optimizer.optimizer).__name__}"), report.subject)
    _check_grids(check.at("after construction"), optimizer)
    for step in range(steps):
        before = torch.get_rng_state()
        _step(model, optimizer, step)
        same = torch.equal(before, torch.get_rng_state())
        check.at(f"step {step}").equal("torch's generator is left alone", same, True)
        _check_grids(check.at(f"after step {step}"), optimizer)
    twin_model, twin = _made(make, _SEED)
    for step in range(steps):
        _step(twin_model, twin, step)
    _check_equal(check, "equal seeds, equal bits", twin, optimizer)
    _check_skipped(check, model, optimizer, twin)
    copied_model, copied = copy.deepcopy((model, optimizer))
    other_model, other = _made(make, _SEED + 1)
    other_model.load_state_dict(_stored(model.state_dict()))
    other.load_state_dict(_stored(optimizer.state_dict()))
    for pair in ((model, optimizer), (other_model, other), (copied_model, copied)):
        _step(*pair, steps)
    _check_equal(check, "save, load, step is step", other, optimizer)
    _check_equal(check, "copy, step is step", copied, optimizer)
    return report


def _made(make: Any, seed: int) -> tuple[torch.nn.Module, LowPrecision]:
    """A pair under a seed."""
    torch.manual_seed(seed)
    made = make()
    pair = isinstance(made, tuple) and len(made) == 2
    if not (pair and isinstance(made[0], torch.nn.Module) and isinstance(made[1], LowPrecision)):
        raise type_error("make", "return a model and a LowPrecision optimizer", type(made))
    return made


def _step(model: torch.nn.Module, optimizer: LowPrecision, step: int) -> None:
    """A step on the gradients of that number."""
    _set_gradients(model, step)
    optimizer.step()


def _set_gradients(model: torch.nn.Module, step: int) -> None:
    """Random numbers for every parameter that is trained."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)


def _stored(state: dict[str, Any]) -> Any:
    """A state through a file that holds nothing but tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _check_skipped(check: Check, model: torch.nn.Module, optimizer: LowPrecision, twin: LowPrecision) -> None:
    """A step that a GradScaler skips; ``twin`` is where the optimizer was before."""
    skipped = optimizer.skipped_steps
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    _set_gradients(model, 0)
    for p in model.parameters():
        if p.grad is not None:
            p.grad.fill_(float("inf"))
    scaler.scale(torch.zeros(()))  # which sets the scaler up
    scaler.step(optimizer)
    _check_equal(check, "a skipped step changes nothing", optimizer, twin)
    check.equal("a skipped step is counted", optimizer.skipped_steps, skipped + 1)
    counts = [o.state_dict()["lowprec"]["step"] for o in (optimizer, twin)]
    check.equal("a skipped step uses no noise", counts[0], counts[1])


def _check_grids(check: Check, optimizer: LowPrecision) -> None:
    """Weights, masters, states and compensations."""
    own = optimizer.state_dict()["lowprec"]
    numbers = iter(optimizer.numbered_parameters())
    for index, group in enumerate(optimizer.param_groups):
        specs = own["groups"].get(index, own["formats"])
        formats = {role: resolve(spec[0]) for role, spec in specs.items()}
        for number, p in itertools.islice(numbers, len(group["params"])):
            if number not in own["excluded"]:
                _check_parameter(check, optimizer, own, formats, number, p)


def _check_parameter(
    check: Check,
    optimizer: LowPrecision,
    own: dict[str, Any],
    formats: dict[str, Format],
    number: int,
    p: Tensor,
) -> None:
    """All that is kept of one parameter."""
    if "weight" in formats:
        on_grid(check, "weights are values of the format", p, formats["weight"])
    if "master" in formats:
        on_grid(check, "masters are values of the format", own["masters"][number], formats["master"])
    if number in own["compensations"]:
        lost = own["compensations"][number]
        on_grid(check, "compensations are values of the weights' format", lost, formats["weight"])
    for name, value in _states(optimizer, p).items():
        format = formats.get(f"state.{name}", formats.get("state"))
        shaped = isinstance(value, Tensor) and value.shape == p.shape
        if shaped and format is not None and p.dim() > 0:  # else it may be a counter
            on_grid(check, "states are values of the format", value, format)


def _states(optimizer: LowPrecision, p: Tensor) -> dict[str, Any]:
    """All states of a parameter, those that are packed among them."""
    return {**optimizer.state.get(p, {}), **optimizer.unpacked_state(p)}


def _check_equal(check: Check, name: str, got: LowPrecision, want: LowPrecision) -> None:
    """Equal bits in all parameters, their states, and what is kept beside them."""
    pairs = zip(got.numbered_parameters(), want.numbered_parameters(), strict=True)
    kept_got, kept_want = (optimizer.state_dict()["lowprec"] for optimizer in (got, want))
    for (number, p), (_, q) in pairs:
        equal_tensors(check, name, q, p, q, parameter=number)
        states = _states(got, p)
        for state, value in _states(want, q).items():
            if isinstance(value, Tensor):
                equal_tensors(check, name, value, states[state], value, parameter=number, state=state)
        for kept in ("masters", "compensations"):
            if number in kept_want[kept]:
                value = kept_want[kept][number]
                equal_tensors(check, name, value, kept_got[kept][number], value, parameter=number, kept=kept)


def _name(dtype: torch.dtype) -> str:
    """A carrier's name."""
    return str(dtype).removeprefix("torch.")
