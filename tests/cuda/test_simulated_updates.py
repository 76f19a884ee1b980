"""The CUDA twins of updates and digests, run by Numba's simulator: the CPU's bits."""

import itertools

import numpy as np
import pytest
import torch
from simulator import GRIDS, queue, same_bits, simulated

from lowprec import Cast
from lowprec.kernels import updates
from lowprec.kernels.steps import CONSTANTS, Descent, Moments
from lowprec.kernels.updates import UNIT
from lowprec.optim import LowPrecision, around, keeper, low_precision, on_device, one_pass
from lowprec.optim.staging import DTYPES

pytestmark = simulated

DESCENTS = [
    Descent(decay, momentum, nesterov, maximize)
    for decay, momentum, nesterov, maximize in itertools.product((False, True), repeat=4)
    if momentum or not nesterov
]
AVERAGES = [Moments(*four, four.count(True) % 2 == 1) for four in itertools.product((False, True), repeat=4)]
"""Each four options in every combination."""
CARRIERS = {"float32": torch.float32, "float64": torch.float64}
KINDS = [*zip(DESCENTS, "ddssdsdssdds", strict=True), *zip(AVERAGES, "dsdssdsdsdsddsds", strict=True)]
"""With a carrier, single or double."""


def numbers(size, dtype, seed):
    """Numbers of all magnitudes, among them zeros, infinities and NaN."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    x *= 2.0 ** torch.randint(-40, 40, (size,), generator=generator)
    ends = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1e-45, 3e38])
    count = min(size, len(ends))
    x[:count] = ends[torch.randperm(len(ends), generator=generator)[:count]]
    return x.to(dtype)


def on_cpu(carrier, kind, tensors, constants):
    """What the loops of the CPU make of tensors, with roots as IEEE 754 has them: all but the gradient."""
    size = tensors[0].numel()
    new, room = [torch.empty_like(t) for t in tensors[1:]], np.empty(updates.ROOM, np.uint8)
    given, made = ([*map(torch.Tensor.data_ptr, ts), *[0] * 4] for ts in (tensors, new))
    rest = constants.ctypes.data, room.ctypes.data, 0, size, 0, 1
    updates.loop_of(carrier, kind)(*given[:5], *made[:4], *rest)
    return new


def check_update(carrier, kind, size, grid=None):
    """Both agree, in the weight and in every state."""
    from lowprec.kernels.cuda import updates as twins

    dtype = CARRIERS[carrier]
    tensors = [numbers(size, dtype, seed) for seed in range(2 + len(kind.states))]
    constants = np.array([0.01, 0.9, 0.3, -0.1, 0.7, 0.8, 1e-8, -0.01], carrier)
    assert constants.size == CONSTANTS
    if isinstance(kind, Moments):
        for t in tensors[3:]:
            t.abs_()
    want = on_cpu(carrier, kind, tensors, constants)
    gradient, weight, *states = (t.data_ptr() for t in tensors)
    twins.update(queue(grid), carrier, kind, gradient, weight, states, constants, size)
    for got, wanted in zip(tensors[1:], want, strict=True):
        assert same_bits(without_nan(got), without_nan(wanted))


def without_nan(x):
    """NaN equals NaN."""
    return x.nan_to_num(nan=-77.0, posinf=torch.inf, neginf=-torch.inf)


@pytest.mark.parametrize(("kind", "letter"), KINDS, ids=str)
def test_every_update_gives_the_bits_of_the_cpu(kind, letter):
    check_update("float32" if letter == "s" else "float64", kind, 40, (2, (5, 1)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("size", [0, 1, 31, 259])
@pytest.mark.parametrize("kind", [DESCENTS[-1], AVERAGES[5]])
def test_no_update_depends_on_size_or_grid(kind, size, grid):
    check_update("float32", kind, size, grid)


@pytest.mark.parametrize("kind", [k for k in DESCENTS if k.momentum], ids=str)
def test_momentum_begins_as_torch_has_it(kind):
    from lowprec.kernels.cuda import updates as twins

    gradient, weight = numbers(50, torch.float32, 1), numbers(50, torch.float32, 2)
    p, buffer = torch.nn.Parameter(weight.clone()), torch.empty(50)
    rest = (kind.nesterov,)
    inner = torch.optim.SGD(
        [p], 0.1, 0.9, 0.0, 0.25 * kind.decay, *rest, maximize=kind.maximize, foreach=False
    )
    p.grad = gradient.clone()
    inner.step()
    constants = np.array([0.25, 0.9, 1.0, -0.1], np.float32)
    addresses = gradient.data_ptr(), weight.data_ptr(), [buffer.data_ptr()]
    twins.update(queue(), "float32", kind._replace(begins=True), *addresses, constants, 50)
    assert same_bits(without_nan(weight), without_nan(p.detach()))
    assert same_bits(without_nan(buffer), without_nan(inner.state[p]["momentum_buffer"]))


@pytest.mark.parametrize("grid", [None, (1, (1, 1)), (3, (5, 2))])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_digests(dtype, grid, monkeypatch):
    from lowprec.ops.cuda import updates as operators

    monkeypatch.setattr(operators, "queue_of", lambda _: queue(grid))
    for size in (0, 1, 259) if grid else (0, 1, UNIT - 1, UNIT, UNIT + 3):
        x = torch.arange(size, dtype=torch.int64).mul(-7046029254386353131)
        x = x.view(dtype)[:size].clone()  # any patterns
        x[::5] = -0.0
        assert torch.equal(operators.digest(x), torch.ops.lowprec.digest(x)), size


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True),
    "momentum up": lambda p: torch.optim.SGD(p, 0.1, 0.9, dampening=0.2, maximize=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, (0.4, 0.99), weight_decay=0.1, amsgrad=True),
    "adam up": lambda p: torch.optim.Adam(p, 0.01, maximize=True, decoupled_weight_decay=True),
}
NOISY, SHAPES = Cast("e5m2", "stochastic"), [(7, 5), (), (3, 1, 2), (0,)]
CASTS = {
    "nothing": {},
    "all": {"weight": NOISY, "gradient": NOISY, "state": NOISY, "master": NOISY},
    "master": {"weight": "e5m2", "master": "bfloat16", "gradient_scale": 0.3},
    "kahan": {"weight": Cast("bfloat16", "stochastic"), "compensation": "kahan"},
}


def parameters_of(dtype):
    """The same ones each time."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]
    return [torch.nn.Parameter(x) for x in values]


class Device:
    """Has the steps of one optimizer go as on a CUDA device, in the simulator."""

    def __init__(self, monkeypatch):
        from lowprec.kernels.cpu import VALUES
        from lowprec.ops.cuda import updates as operators
        from lowprec.ops.cuda import values

        for module in (operators, values):
            monkeypatch.setattr(module, "queue_of", lambda _: queue((2, (5, 1))))
        self.launched = 0
        self.patches = monkeypatch

        def quantize_into(x, seed, spec, out, stream):
            values.quantize(x, out, seed, *spec, stream, 0, None, VALUES)
            self.launched += 1

        self.ours = (
            (torch.cuda, "is_current_stream_capturing", lambda: False),
            (keeper, "quantize_into", quantize_into),
            (keeper, "digest", operators.digest),
            (on_device, "is_on_device", lambda _: True),
            (around.Kept, "fits", lambda _: False),
            (low_precision, "is_possible", lambda _: False),
        )

    def step(self, optimizer):
        """One step."""
        with self.patches.context() as patches:
            for where, name, value in self.ours:
                patches.setattr(where, name, value)
            optimizer.step()


def give_gradients(parameters, step):
    """Those of a step; some have none in the last one."""
    generator = torch.Generator().manual_seed(100 + step)
    for number, p in enumerate(parameters):
        g = torch.randn(p.shape, generator=generator).to(p.dtype)
        p.grad = None if step == 3 and number == 1 else g


def assert_alike(optimizer, other):
    """Equal weights, states, masters and compensations."""
    pairs = zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True)
    for (number, p), (_, q) in pairs:
        tensors = [(p.detach(), q.detach())]
        assert optimizer.state[p].keys() == other.state[q].keys()
        tensors += [(optimizer.state[p][name], other.state[q][name]) for name in other.state[q]]
        for kept in ("_masters", "_compensations", "_seen", "_digests"):
            mine, others = getattr(optimizer, kept), getattr(other, kept)
            assert mine.keys() == others.keys()
            tensors += [(mine[number], others[number])] if number in mine else []
        for got, want in tensors:
            assert same_bits(got, want)


def with_ieee_roots(monkeypatch):
    """Have torch and the passes of the CPU take roots as IEEE 754 says."""

    def root(x):
        """Of float32 and float64 NumPy's."""
        return torch.from_numpy(np.asarray(np.sqrt(x.numpy()))) if x.dtype in DTYPES else own(x)

    own = torch.Tensor.sqrt
    monkeypatch.setattr(torch.Tensor, "sqrt", root)
    monkeypatch.setattr(one_pass, "root_function", lambda _: 0)


@pytest.mark.parametrize("casts", CASTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_from_the_first_one_on(name, casts, monkeypatch):
    with_ieee_roots(monkeypatch)
    dtype = torch.float64 if name in ("momentum up", "amsgrad") else torch.float32
    mine, others = parameters_of(dtype), parameters_of(dtype)
    optimizer = LowPrecision(OPTIMIZERS[name](mine), seed=7, **CASTS[casts])
    other = LowPrecision(OPTIMIZERS[name](others), seed=7, **CASTS[casts])
    device = Device(monkeypatch)
    for step in range(5):
        for parameters in (mine, others):
            give_gradients(parameters, step)
            if step == 2:
                parameters[0].data[1:] += 0.5  # somebody else does
        device.step(optimizer)
        other.step()
        assert_alike(optimizer, other)
    assert bool(device.launched) == (casts != "nothing")


@pytest.fixture
def updated(monkeypatch):
    """The shapes of what our kernels have updated."""
    from lowprec.ops.cuda import updates as operators

    found, own = [], operators.update

    def update(kind, gradient, weight, *rest):
        found.append(tuple(weight.shape))
        own(kind, gradient, weight, *rest)

    monkeypatch.setattr(operators, "update", update)
    return found


def step_beside_torch(monkeypatch, make, values, steps=2):
    """Two optimizers without casts after some steps, one of them as on a device."""
    with_ieee_roots(monkeypatch)
    device, pairs = Device(monkeypatch), []
    for _ in range(2):
        p = [torch.nn.Parameter(x.clone()) for x in values]
        pairs.append((p, LowPrecision(make(p))))
    for step in range(steps):
        for p, _ in pairs:
            give_gradients(p, step)
        gradients = [q.grad for q in pairs[0][0]]
        device.step(pairs[0][1])
        assert all(q.grad is g for q, g in zip(pairs[0][0], gradients, strict=True))
        pairs[1][1].step()
    assert_alike(pairs[0][1], pairs[1][1])
    return pairs[0][1]


def test_what_has_no_kernel_is_left_to_torch(monkeypatch, updated):
    values = [torch.randn(3), torch.randn(4).bfloat16(), torch.randn(5)]
    step_beside_torch(monkeypatch, lambda p: torch.optim.AdamW(p, 0.01), values)
    assert updated == [(3,), (5,)] * 2
    updated.clear()
    step_beside_torch(monkeypatch, lambda p: torch.optim.RMSprop(p, 0.01), values)
    step_beside_torch(monkeypatch, lambda p: torch.optim.SGD(p, torch.tensor(0.01)), values)
    step_beside_torch(monkeypatch, lambda p: torch.optim.AdamW(p, 0.01, foreach=True), values)
    seen = []

    def hooked(p):
        optimizer = torch.optim.SGD(p, 0.1)
        optimizer.register_step_post_hook(lambda *_: seen.append(1))
        return optimizer

    step_beside_torch(monkeypatch, hooked, values)
    assert seen == [1] * 4
    assert updated == []


def test_strides_of_all_kinds(monkeypatch, updated):
    x = torch.randn(4, 3, 2, 5)
    values = [x.to(memory_format=torch.channels_last), x[0].transpose(0, 2), x[:, :, 0, 0]]
    optimizer = step_beside_torch(monkeypatch, lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1), values)
    assert len(updated) == 6
    assert next(p.stride() for _, p in optimizer.numbered_parameters()) == values[0].stride()


def test_no_gradient_and_a_scheduler_of_the_inner_optimizer(monkeypatch, updated):
    p = torch.nn.Parameter(torch.ones(3))
    inner = torch.optim.SGD([p], 0.5)
    optimizer, device = LowPrecision(inner), Device(monkeypatch)
    scheduler = torch.optim.lr_scheduler.StepLR(inner, 1, 0.5)
    device.step(optimizer)
    assert updated == []
    for _ in range(2):  # without a warning that the step comes first
        p.grad = torch.ones(3)
        device.step(optimizer)
        scheduler.step()
    assert torch.equal(p.detach(), torch.full((3,), 0.25))
    assert p._version >= 2


def test_a_step_that_is_captured_is_refused(monkeypatch):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = LowPrecision(torch.optim.SGD([p], 0.5))
    monkeypatch.setattr(on_device, "is_on_device", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="must run outside of CUDA graphs: a replay would take this step"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))


TWINS = {
    "descending": lambda _: check_update("float32", DESCENTS[-1], 40, (2, (5, 1))),
    "averaging": lambda _: check_update("float32", AVERAGES[5], 40, (2, (5, 1))),
    "digesting": lambda monkeypatch: test_digests(torch.float32, (3, (5, 2)), monkeypatch),
}
"""A case of each function of updates.py that makes a kernel."""
