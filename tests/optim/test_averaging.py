"""Averages of weights in low precision, against the same sums in NumPy and exact roundings."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from optim.plain_steps import exact, same, tensors
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

import lowprec
from lowprec import Cast
from lowprec.optim import Averaging, LowPrecision

ROLES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
CASTS = {
    "nearest": Cast("fixed8f6"),
    "stochastic": Cast("fixed8f6", "stochastic"),
    "few bits": Cast("e4m3fn", "stochastic", random_bits=9),
    "block": Cast("bfp8", "stochastic"),
}


class Weights(nn.Module):
    """Parameters of two carriers among each other, a buffer and a counter."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3, 2))
        self.b = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.c = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("mask", torch.tensor([True, False]))

    def set(self, number):
        """The weights of that number."""
        for x, value in zip(self.state_dict().values(), tensors([(3, 2), (4,), (), (3,)], number)):  # noqa: B905
            x.copy_(value)
        self.count.fill_(number)
        self.mask.logical_not_()


def expected(average, p, cast, count, place, *, seed, decay=None):
    """One average by NumPy and the definition; ``place`` counts those of its dtype."""
    a, x = average.numpy(), p.detach().numpy()
    change = x - a
    factor = a.dtype.type(1 - decay) if decay is not None else None
    moved = a + (change / a.dtype.type(count + 1) if decay is None else change * factor)
    stream = (1 << 62) | (count << 32) | (place << 6) | ROLES.index(average.dtype)
    return exact(torch.from_numpy(np.asarray(moved)), cast, stream, seed)


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averages_equal_the_sums_written_out(cast, decay, use_buffers):
    model = Weights()
    model.set(0)
    average = AveragedModel(model, multi_avg_fn=Averaging(cast, decay=decay, seed=7), use_buffers=use_buffers)
    average.update_parameters(model)
    places = {"a": 0, "b": 0, "c": 1, "mean": 2}
    want = {name: x.clone() for name, x in model.state_dict().items()}
    for count in range(1, 12):
        model.set(count)
        average.update_parameters(model)
        for name, x in model.state_dict().items():
            if name in places and (use_buffers or name != "mean"):
                want[name] = expected(want[name], x, cast, count, places[name], seed=7, decay=decay)
            else:
                want[name] = x.clone()
        for name, x in average.module.state_dict().items():
            assert x.dtype == want[name].dtype
            if x.is_floating_point():
                assert same(x, want[name]), (count, name)
            else:
                assert torch.equal(x, want[name]), (count, name)


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_a_saved_average_goes_on_with_the_same_bits(how):
    def made():
        return AveragedModel(Weights(), multi_avg_fn=Averaging(CASTS["stochastic"], seed=3))

    model, average = Weights(), made()
    for number in range(4):
        model.set(number)
        average.update_parameters(model)
    if how == "deepcopy":
        other = copy.deepcopy(average)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(average))
    else:
        file = io.BytesIO()
        torch.save(average.state_dict(), file)
        file.seek(0)
        other = made()
        other.load_state_dict(torch.load(file, weights_only=True))
    noise = torch.get_rng_state()
    for number in range(4, 8):
        model.set(number)
        average.update_parameters(model)
        other.update_parameters(model)
    assert torch.equal(torch.get_rng_state(), noise), "the global generator is left alone"
    for p, q in zip(average.parameters(), other.parameters(), strict=True):
        assert same(p, q)


def test_seeds_updates_parameters_and_carriers_have_noise_of_their_own():
    seen = []
    for seed in (0, 1):
        rounded = Averaging(Cast("fixed8f0", "stochastic"), decay=1.0, seed=seed)
        for count in (1, 2):
            for dtype in (torch.float32, torch.float64):
                averages = [torch.full((256,), 0.5, dtype=dtype) for _ in range(2)]
                rounded(averages, averages, count)
                seen += averages
    for n, a in enumerate(seen):
        for b in seen[:n]:
            assert 0.3 < (a == b.to(a.dtype)).double().mean() < 0.7


def test_a_run_by_hand():
    average = [torch.tensor([0.5])]
    shares = Averaging("fixed8f2")
    shares(average, [torch.tensor([1.0])], torch.tensor(1))
    assert average[0].item() == 0.75
    shares(average, [torch.tensor([0.0])], 2)
    assert average[0].item() == 0.5, "0.75 - 0.75 / 3"
    Averaging("fixed8f2", decay=0.5)(average, [torch.tensor([2.0])], 3)
    assert average[0].item() == 1.25


@pytest.mark.statistical
def test_nearest_averages_stop_where_stochastic_ones_go_on():
    """After many updates a share is less than half a step of the grid."""
    ends = {}
    for rounding in ("nearest_even", "stochastic"):
        average, one = [torch.zeros(4096)], [torch.full((4096,), 0.5)]
        update = Averaging(Cast("fixed8f5", rounding))
        for count in range(100, 300):
            update(average, one, count)
        ends[rounding] = average[0].mean().item()
    assert ends["nearest_even"] == 0.0
    assert abs(ends["stochastic"] - 0.5 * (1 - 100 / 300)) < 0.01


def test_weights_in_low_precision_are_averaged_while_they_train():
    torch.manual_seed(0)
    model = lowprec.convert(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), "bfp8-sr")
    optimizer = LowPrecision(
        torch.optim.SGD(model.parameters(), lr=0.1), weight=Cast("fixed8f6", "stochastic"), seed=0
    )
    average = AveragedModel(model, multi_avg_fn=Averaging("fixed8f6"))
    inputs = [torch.randn(8, 4) for _ in range(5)]
    for x in inputs:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        average.update_parameters(model)
    update_bn(inputs, average)
    for p in average.module.parameters():
        assert same(p.detach(), lowprec.quantize(p.detach(), "fixed8f6"))
    assert average.module[1].num_batches_tracked == 5
    assert average(inputs[0]).isfinite().all()


def test_it_says_what_it_does():
    assert repr(Averaging("bfp8")) == "Averaging(bfp8 nearest_even, equal shares)"
    assert repr(Averaging("bfp8", decay=0.99)) == "Averaging(bfp8 nearest_even, decay 0.99)"


COMPLEX = [torch.ones(2, dtype=torch.complex64)]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Averaging(None), TypeError, "`cast` must be a cast, a format or its name, got None"),
        (lambda: Averaging("fixed8"), ValueError, "`format` must be a known name"),
        (lambda: Averaging(Cast("e5m2", clip_gradient=True)), ValueError, "`cast` must not clip gradients"),
        (lambda: Averaging("bfp8", decay="0.9"), TypeError, "`decay` must be a number or None"),
        (lambda: Averaging("bfp8", decay=True), TypeError, "`decay` must be a number or None"),
        (lambda: Averaging("bfp8", decay=1.5), ValueError, "`decay` must lie between 0 and 1, got 1.5"),
        (lambda: Averaging("bfp8", seed=None), TypeError, "`seed` must be an integer, got None"),
        (lambda: Averaging("bfp8", seed=0.5), TypeError, "`seed` must be an integer"),
        (lambda: Averaging("bfp8", seed=2**64), ValueError, "`seed` must fit into 64 bits"),
        (lambda: Averaging("bfp8")(COMPLEX, COMPLEX, 1), TypeError, "`x` must be float32"),
        (lambda: Averaging("binary16")([torch.ones(2).bfloat16()], [torch.ones(2)], 1), ValueError,
         "`format` must be exact in the carrier bfloat16"),
        (lambda: Averaging("bfp8")(torch.ones(2), torch.ones(2), 1), TypeError,
         "`averages` must be a list of tensors, got 'one tensor'. Pass it as multi_avg_fn"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
