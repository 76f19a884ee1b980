"""The other packages of the benchmark: each does what its row says, or its absence is told."""

import sys
import warnings
from dataclasses import replace

import pytest
import torch

import lowprec.reference
from lowprec.app.bench import handwritten, peers
from lowprec.app.bench.figure import Probe, Unavailable
from lowprec.app.bench.measure import FULL, QUICK, Effort


@pytest.fixture
def x():
    """Normally distributed values."""
    return torch.randn(32, 32, generator=torch.Generator().manual_seed(0))


def exact(format: str, rounding: str, x: torch.Tensor) -> torch.Tensor:
    """What the definition makes of it."""
    return torch.from_numpy(lowprec.reference.quantize(x.numpy(), format, rounding=rounding))


def ours(operation: str, x: torch.Tensor) -> torch.Tensor:
    """What a row under a deterministic mode should give."""
    return exact(*operation.split(), x)


def among_neighbors(result: torch.Tensor, format: str, x: torch.Tensor) -> torch.Tensor:
    """Which results are one of the two neighbors of their input."""
    return (result == exact(format, "toward_zero", x)) | (result == exact(format, "away", x))


@pytest.mark.parametrize("operation", [o for o in peers.OPERATIONS if o.endswith("nearest_even")])
def test_what_is_written_by_hand_gives_our_bits(x, operation):
    out = torch.empty_like(x)
    peers.WRITTEN[operation](x, out)
    assert torch.equal(out, ours(operation, x))


@pytest.mark.parametrize("operation", [o for o in peers.OPERATIONS if o.endswith("stochastic")])
def test_what_is_written_by_hand_rounds_stochastically(x, operation):
    format = operation.split()[0]
    out = torch.empty_like(x)
    torch.manual_seed(1)  # not the one behind x
    peers.WRITTEN[operation](x, out)
    assert among_neighbors(out, format, x).all()
    away = out.abs() > x.abs()
    assert 0.4 < float(away.float().mean()) < 0.6


def test_a_compiled_function_makes_its_output_or_fills_one(x, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    out = torch.empty_like(x)
    assert handwritten.compiled(handwritten.fixed_nearest, new_output=False)(x, out) is None
    fresh = handwritten.compiled(handwritten.fixed_nearest, new_output=True)(x)
    assert torch.equal(fresh, out)
    assert torch.equal(out, ours(peers.FIXED, x))


@pytest.mark.parametrize("operation", peers.PYTORCH)
def test_pytorch_itself_gives_our_bits(x, operation):
    assert torch.equal(peers.PYTORCH[operation](x), ours(operation, x))


@pytest.mark.parametrize("peer", peers.INSTALLED, ids=lambda peer: peer.package)
def test_a_package_rounds_as_its_row_says(x, peer):
    try:
        modules = peer.imported()
    except Unavailable as reason:
        pytest.skip(f"{peer.package}: {reason}")
    for operation, call in peer.calls.items():
        format = operation.split()[0]
        with warnings.catch_warnings(action="ignore"):  # its own affair
            result = torch.as_tensor(call(x, *modules))
        if format.startswith("bfp"):  # scales and ranges differ
            assert float((result - x).abs().max()) < float(x.abs().max()) / 8
            continue
        as_ours = among_neighbors(result, format, x)
        if operation.endswith("nearest_even"):
            as_ours = torch.isclose(result.float(), ours(operation, x), rtol=2**-22, atol=0)
        assert float(as_ours.float().mean()) > 0.99  # ties, ends, products of scales differ


def test_a_package_that_is_not_installed_is_told(monkeypatch):
    peer = peers.Peer("nobody-made-this", ("nobody_made_this",), {})
    with pytest.raises(Unavailable, match=r"^not installed$"):
        peer.imported()


def test_a_package_that_cannot_be_imported_is_tried_once(monkeypatch, capfd):
    tried = []

    def broken(name):
        tried.append(name)
        sys.stderr.write("noise")
        warnings.warn("noise", stacklevel=1)
        raise OSError("no compiler\nand a long story")

    monkeypatch.setattr(peers.importlib, "import_module", broken)
    peer = peers.Peer("pytest", ("pytest_of_this_test",), {})
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"^OSError: no compiler$"):
            peer.imported()
    assert tried == ["pytest_of_this_test"]
    assert "noise" not in capfd.readouterr().err


def measured(row: str, effort: Effort = QUICK) -> Probe:
    """The first probe of a row."""
    return next(probe for probe in peers.probes(effort) if probe.row == row)


def test_a_failure_of_another_package_is_none_of_ours(monkeypatch):
    def broken(*_):
        raise RuntimeError("planted")

    monkeypatch.setitem(peers.PYTORCH, peers.FLOAT, broken)
    figure = measured("PyTorch").take()
    assert figure.absent == "RuntimeError: planted"
    assert not figure.missed
    monkeypatch.setattr(peers.kernels, "quantizing", broken)
    assert measured(peers.OURS).take().failure == "RuntimeError: planted"


@pytest.mark.parametrize(
    ("seconds", "ratio", "parts"),
    [(0.4, 9, [256, 16, 1]), (0.6, 3 / 16, [256, 16, 16]), (9.0, 3 / 256, [256, 256])],
)
def test_a_slow_package_is_timed_on_a_part(monkeypatch, seconds, ratio, parts):
    sizes = []
    monkeypatch.setitem(peers.PYTORCH, peers.FLOAT, lambda x: sizes.append(x.numel()))
    monkeypatch.setattr(peers, "seconds", lambda call: seconds * sizes[-1] / 2**16)
    monkeypatch.setattr(peers, "in_turns", lambda one, other, repeats: (other(), repeats)[1])
    assert measured("PyTorch", replace(FULL, side=256)).measure() == ratio
    assert sizes == [2**16 // part for part in parts]
