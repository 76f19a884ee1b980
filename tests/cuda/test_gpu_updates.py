"""On a CUDA device: updates, packed codes and counts have the CPU's bits. Skipped where there is none."""

import importlib.util

import numpy as np
import pytest
import torch
from simulator import SIMULATED, same_bits

import lowprec
from lowprec import Cast
from lowprec.optim import LowPrecision, one_pass

_MISSING = [
    *(["a CUDA device"] if not torch.cuda.is_available() else []),
    *(["the extra `cuda`"] if importlib.util.find_spec("numba_cuda") is None else []),
    *(["NUMBA_ENABLE_CUDASIM unset"] if SIMULATED else []),
]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(_MISSING), reason=f"needs {' and '.join(_MISSING)}"),
]
NOISY, SHAPES = Cast("e5m2", "stochastic"), [(300, 211), (7,), ()]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.1, nesterov=True),
    "momentum up": lambda p: torch.optim.SGD(p, 0.1, 0.9, dampening=0.2, maximize=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, (0.4, 0.99), weight_decay=0.1, amsgrad=True),
    "adam up": lambda p: torch.optim.Adam(p, 0.01, maximize=True, decoupled_weight_decay=True),
}
CASTS = {
    "nothing": {},
    "all": {"weight": NOISY, "gradient": NOISY, "state": NOISY, "master": NOISY},
    "master": {"weight": "e5m2", "master": "bfloat16", "gradient_scale": 0.3},
    "groups": {"weight": "bfp8", "state": "bfloat16"},
    "packed": {"state": "bfloat16", "store": "packed"},
    "kahan": {"weight": Cast("bfloat16", "stochastic"), "compensation": "kahan"},
}


@pytest.fixture
def ieee_roots(monkeypatch):
    """Torch's roots on a CPU are not always those of IEEE 754, which are those of a device."""
    own = torch.Tensor.sqrt

    def root(x):
        """NumPy's."""
        return torch.from_numpy(np.asarray(np.sqrt(x.numpy()))) if x.is_cpu else own(x)

    monkeypatch.setattr(torch.Tensor, "sqrt", root)
    monkeypatch.setattr(one_pass, "root_function", lambda _: 0)


def weights_after(device, make, casts, dtype):
    """Weights and states after some steps, one of them with weights that somebody else has written to."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    parameters = [torch.nn.Parameter(x.to(device)) for x in values]
    optimizer = LowPrecision(make(parameters), seed=7, **casts)
    for step in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator, dtype=dtype).to(device)
        if step == 2:
            parameters[0].data[1:] += 0.5
        optimizer.step()
    states = [
        {**optimizer.state[p], **optimizer.unpacked_state(p)} for _, p in optimizer.numbered_parameters()
    ]
    kept = [t for own in states for _, t in sorted(own.items())]
    return [t.detach().cpu() for t in (*parameters, *kept)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("casts", CASTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_steps_of_the_cpu(name, casts, dtype, ieee_roots) -> None:
    if name == "sgd" and "state" in CASTS[casts]:
        pytest.skip("it has no state")
    arguments = OPTIMIZERS[name], CASTS[casts], dtype
    for got, want in zip(weights_after("cuda", *arguments), weights_after("cpu", *arguments), strict=True):
        assert same_bits(got, want)


def test_a_step_does_not_wait_for_the_device() -> None:
    p = torch.nn.Parameter(torch.randn(1000, device="cuda"))
    optimizer = LowPrecision(torch.optim.AdamW([p], 0.01), **CASTS["all"], seed=1)
    for mode in ("default", "error"):  # the first step compiles kernels
        p.grad = torch.randn(1000, device="cuda")
        torch.cuda.set_sync_debug_mode(mode)
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_a_step_that_is_captured_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(3, device="cuda"))
    optimizer, p.grad = LowPrecision(torch.optim.SGD([p], 0.5)), torch.ones_like(p)
    with (
        pytest.raises(RuntimeError, match="must run outside of CUDA graphs"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        optimizer.step()


@pytest.mark.parametrize("bits", range(1, 17))
def test_packed_codes(bits: int) -> None:
    dtype = torch.uint8 if bits <= 8 else torch.uint16
    codes = torch.randint(1 << bits, (10007,)).to(dtype)
    packed = lowprec.pack(codes.cuda(), bits)
    assert torch.equal(packed.cpu(), lowprec.pack(codes, bits))
    assert torch.equal(lowprec.unpack(packed, bits, (10007,)).cpu(), codes)
    if bits not in (8, 16):
        codes[5000] = 1 << bits
        with pytest.raises(ValueError, match="must lie below"):
            lowprec.pack(codes.cuda(), bits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_counts_and_digests(dtype) -> None:
    x = (300 * torch.randn(500, 1201)).to(dtype)
    x[::7, ::5], x[3, 3] = 1e-7, torch.nan
    for view in (x, x.t(), x[::2, 1::3]):
        y = lowprec.quantize(view, "e4m3fn")
        call = "e4m3fn", "nearest_even", 32
        there, result = view.cuda(), y.cuda()
        found = torch.ops.lowprec.count(there, result, *call)
        strided = torch.empty_strided(view.shape, there.stride(), dtype=dtype).copy_(view)
        wanted = torch.ops.lowprec.count(strided, y, *call)
        assert all(map(torch.equal, found, wanted))
        assert torch.equal(torch.ops.lowprec.digest(there).cpu(), torch.ops.lowprec.digest(view))
