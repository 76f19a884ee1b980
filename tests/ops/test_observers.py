"""Observers: their statistics by straightforward arithmetic, the scales in use, state and uses."""

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable, Iterable
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import ranks
import torch
from oracle import STOCHASTIC, assert_same, spread
from torch import Tensor
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

import lowprec
from lowprec import Quantizer, record
from lowprec.observers import Delayed, MeanSquaredError, MinMax, MovingAverage, Observer, Percentile
from lowprec.ops import statistics

CARRIERS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ALL = (MinMax(), MovingAverage(0.75), Percentile(90.0), MeanSquaredError(8), Delayed(history=3, margin=1))
CHANNELS = "scaled<e4m3fn,float32,channel1,amax>"
GROUPS: dict[str, Callable[[np.ndarray], Iterable[np.ndarray]]] = {
    "int8": lambda x: [x],
    "uint8": lambda x: [x],
    "nvfp4": lambda x: [x],
    CHANNELS: lambda x: [x[:, i] for i in range(x.shape[1])],
    "scaled<ufixed4f0,bfloat16,channel0,amax,zero_point>": lambda x: list(x),
    "scaled<e4m3fn,e8m0,block4x5>": lambda x: [
        x[i : i + 4, j : j + 5] for i in range(0, x.shape[0], 4) for j in range(0, x.shape[1], 5)
    ],
    "scaled<e2m1,scaled<e4m3fn,float32,group2,amax>,group4,amax>": lambda x: [
        x[i, j : j + 8] for i in range(x.shape[0]) for j in range(0, x.shape[1], 8)
    ],
}
"""The elements that share an outermost scale, in the order of the scales."""


def inputs(dtype: torch.dtype = torch.float32, count: int = 5) -> list[Tensor]:
    """Tensors of other sizes of magnitude with specials; one row has no number."""
    found = [spread(9, 21, dtype=dtype, seed=seed) * 2.0 ** (seed % 3) for seed in range(count)]
    found[1][0] = math.nan
    return found


def numbers(x: Tensor) -> np.ndarray:
    """As float64."""
    return x.double().numpy()


def ends(group: np.ndarray, share: Fraction = Fraction(1)) -> tuple[float, float]:
    """How far the finite values reach below and above zero, or so large a share of them."""
    values = sorted(group[np.isfinite(group)].tolist())
    if not values:
        return 0.0, 0.0
    rank = math.ceil(share * len(values))
    return max(-values[len(values) - rank], 0.0), max(values[rank - 1], 0.0)


def reach(group: np.ndarray, share: Fraction = Fraction(1)) -> float:
    """The same of magnitudes."""
    return ends(np.abs(group), share)[1]


def measured(x: Tensor, format: str, share: Fraction = Fraction(1)) -> np.ndarray:
    """What an observer sees of one input."""
    measure = ends if "ufixed" in format or format == "uint8" else reach
    return np.array([measure(group, share) for group in GROUPS[format](numbers(x))])


def assert_state(layer: Quantizer, want: np.ndarray) -> None:
    """The statistic is this, in the order of groups."""
    state = layer.observed.statistic
    assert state.dtype == torch.float64
    assert not state.requires_grad
    np.testing.assert_array_equal(state.numpy().reshape(want.shape), want)


def nearest(exact: Fraction, dtype: type = np.float32) -> np.floating:
    """The number of a dtype that is nearest to an exact positive one, ties to even."""
    start = dtype(float(exact))
    near = [np.nextafter(start, dtype(0)), start, np.nextafter(start, dtype(np.inf))]
    bits = f"uint{start.itemsize * 8}"
    return min(near, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(bits)) & 1))


class TestStatistics:
    @pytest.mark.parametrize("dtype", CARRIERS, ids=str)
    @pytest.mark.parametrize("format", GROUPS)
    def test_min_max(self, format: str, dtype: torch.dtype) -> None:
        layer, want = Quantizer(format, observer=MinMax()), 0.0
        for x in inputs(dtype):
            layer(x)
            want = np.maximum(want, measured(x, format))
            assert_state(layer, want)

    @pytest.mark.parametrize("format", GROUPS)
    def test_moving_average(self, format: str) -> None:
        layer, want = Quantizer(format, observer=MovingAverage(0.75)), None
        for x in inputs():
            layer(x)
            current = measured(x, format)
            want = current if want is None else current + 0.75 * (want - current)
            assert_state(layer, want)

    @pytest.mark.parametrize("percent", [100, 99.9, 50, 12.5, 1e-9])
    @pytest.mark.parametrize("format", GROUPS)
    def test_percentile(self, format: str, percent: float) -> None:
        for dtype, x in zip(CARRIERS, inputs(count=4), strict=True):
            layer = Quantizer(format, observer=Percentile(percent))
            x = x.to(dtype)
            layer(x)
            assert_state(layer, measured(x, format, Fraction(str(percent)) / 100))

    def test_percentile_counts_as_decimals_do(self) -> None:
        """99.9 in binary is a little more than 99.9."""
        layer = Quantizer("int8", observer=Percentile())
        layer(torch.arange(1.0, 1001.0))
        assert_state(layer, np.array(999.0))

    def test_percentiles_are_averaged(self) -> None:
        layer = Quantizer("int8", observer=Percentile(50, momentum=0.5))
        for x in ([1.0, 2.0, 9.0], [4.0, 6.0, 9.0, 9.0], [8.0]):
            layer(torch.tensor(x))
        assert_state(layer, np.array(6.0))

    @pytest.mark.parametrize("format", ["int8", "scaled<fixed4f0<symmetric>,float32,channel0,amax>"])
    def test_least_squared_error_of_integers(self, format: str) -> None:
        """By exact arithmetic: outliers are clipped at the best of ten magnitudes."""
        x = torch.randn(3, 200, generator=torch.Generator().manual_seed(6))
        x[0, :2] = torch.tensor([math.nan, math.inf])
        x[:, 2] = 6.0
        layer = Quantizer(format, observer=MeanSquaredError(10))
        layer(x)
        largest_code = 127 if format == "int8" else 7
        best = []
        for group in [numbers(x)] if format == "int8" else numbers(x):
            values = [Fraction(v) for v in group[np.isfinite(group)].tolist()]
            trials = [reach(group) * (k / 10) for k in range(10, 0, -1)]
            errors = []
            for clipped in trials:
                scale = Fraction(float(nearest(Fraction(clipped) / largest_code)))
                codes = [max(-largest_code, min(largest_code, round(v / scale))) for v in values]
                rounded = [Fraction(float(np.float32(float(c * scale)))) for c in codes]
                errors.append(sum((v - r) ** 2 for v, r in zip(values, rounded, strict=True)))
            best.append(trials[errors.index(min(errors))])
        assert_state(layer, np.array(best))
        assert format == "int8" or best != [reach(group) for group in numbers(x)]

    @pytest.mark.parametrize(
        ("format", "x", "want"),
        [
            ("int8", [1.0, -1.0], 1.0),  # every magnitude has an error of nearly zero; one of zero
            ("scaled<e2m1,e8m0>", [6.0, 5.0, 0.5], 6.0),  # 6, 4.5 have one scale: the larger
            ("uint8", [0.0, 0.0], (0.0, 0.0)),
            ("int8", [math.nan, math.inf], 0.0),
            ("scaled<e4m3fn<infinity>,float32,amax>", [448.0, 1.0], 448.0),  # else 448 becomes NaN
        ],
    )
    def test_least_squared_error_of_few(self, format, x, want) -> None:
        layer = Quantizer(format, observer=MeanSquaredError(4))
        layer(torch.tensor(x))
        assert_state(layer, np.array(want))

    @pytest.mark.parametrize("format", [f for f in GROUPS if "e8m0" not in f])
    def test_least_squared_error_is_the_least(self, format: str) -> None:
        """Of all clipped magnitudes, by quantizing with the scales that follow from each."""
        x = torch.randn(9, 21, generator=torch.Generator().manual_seed(6))
        x[:, 3] *= 4
        layer = Quantizer(format, observer=MeanSquaredError(20))
        layer(x)
        errors = []
        for k in range(20, 0, -1):
            trial = Quantizer(format, observer=MinMax())
            trial(x)
            trial.observed.statistic.mul_(k / 20)
            y = trial.eval()(x)
            pairs = zip(GROUPS[format](numbers(x)), GROUPS[format](numbers(y)), strict=True)
            errors.append([sum(Fraction(d) ** 2 for d in (a - b).ravel().tolist()) for a, b in pairs])
        chosen = [column.index(min(column)) for column in zip(*errors, strict=True)]
        assert_state(layer, np.array([
            largest * ((20 - i) / 20) for i, largest in zip(chosen, measured(x, format), strict=True)
        ]))  # fmt: skip
        assert set(chosen) != {0} or format in ("int8", "uint8", CHANNELS)  # which are too fine

    def test_squared_errors_are_added_by_halves(self) -> None:
        """In the same order wherever they lie."""
        rows = torch.tensor([[1e16, 1, -1e16, 1, 1], [1, 2, 3, 4, 5]], dtype=torch.float64)
        assert statistics._sums_of(rows).tolist() == [2.0, 15.0]  # (1e16 + 1 - 1e16) + (1 + 1)

    @pytest.mark.parametrize("format", GROUPS)
    def test_delayed(self, format: str) -> None:
        observer = Delayed(history=2, margin=-1)
        layer, seen = Quantizer(format, observer=observer), []
        for x in inputs():
            used = seen[-2:] or [measured(x, format)]
            y = layer(x)
            seen.append(measured(x, format))
            assert_state(layer, np.stack([np.zeros_like(seen[0]), *seen][-2:]))
            twin = Quantizer(format, observer=MinMax())
            twin(x)
            shape = twin.observed.statistic.shape
            twin.observed.statistic.copy_(torch.from_numpy(np.maximum(*used[:1], used[-1]) / 2).view(shape))
            assert_same(y, twin.eval()(x))

    @pytest.mark.parametrize("observer", ALL, ids=repr)
    @pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4", "scaled<e4m3fn,e8m0>"])
    def test_the_ends_of_float64(self, format: str, observer: Observer) -> None:
        largest = torch.finfo(torch.float64).max
        layer = Quantizer(format, observer=observer)
        for x in ([largest, -largest], [largest, 1.0], [5e-324, 0.0], [-largest, largest]):
            assert layer(torch.tensor(x, dtype=torch.float64)).isfinite().all()
            assert layer.observed.statistic.isfinite().all()

    def test_constant_inputs_keep_the_average(self) -> None:
        layer = Quantizer("int8", observer=MovingAverage(0.9))
        for _ in range(20):
            layer(torch.tensor([0.1, -0.3]))
        assert_state(layer, np.array(float(np.float32(0.3))))

    def test_strides_and_threads_do_not_matter(self) -> None:
        x = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
        before, states = torch.get_num_threads(), []
        try:
            for threads, y in itertools.product((1, 3), (x, x.T.contiguous().T)):
                torch.set_num_threads(threads)
                layer = Quantizer(CHANNELS, observer=MeanSquaredError(9))
                layer(y)
                states.append(layer.observed.statistic)
        finally:
            torch.set_num_threads(before)
        for state in states[1:]:
            assert_same(state, states[0])


class TestScales:
    @pytest.mark.parametrize("dtype", CARRIERS, ids=str)
    @pytest.mark.parametrize("observer", [MinMax(), MovingAverage(), Delayed(), Percentile(100)], ids=repr)
    @pytest.mark.parametrize("format", [*GROUPS, "mxfp4", "mxfp8_e5m2", "scaled<e3m2,e8m0,channel0,even>"])
    def test_the_first_input_has_the_scales_of_dynamic_scaling(self, format, observer, dtype) -> None:
        x = spread(6, 40, dtype=dtype)
        assert_same(Quantizer(format, observer=observer)(x), lowprec.quantize(x, format))

    def test_int8(self) -> None:
        """By exact fractions."""
        layer, largest = Quantizer("int8", observer=MinMax()), 0.0
        for x in inputs():
            y = layer(x)
            largest = max(largest, reach(numbers(x)))
            scale = Fraction(float(nearest(Fraction(largest) / 127)))
            for a, b in zip(numbers(x).ravel().tolist(), y.ravel().tolist(), strict=True):
                if math.isnan(a):
                    assert math.isnan(b)
                    continue
                code = math.copysign(127, a) if math.isinf(a) else round(Fraction(a) / scale)
                assert b == np.float32(float(max(-127, min(127, int(code))) * scale))

    def test_uint8(self) -> None:
        """By exact fractions; the zero point follows from the lowest value."""
        layer, low, high = Quantizer("uint8", observer=MinMax()), 0.0, 0.0
        for x in inputs():
            y = layer(x)
            below, above = ends(numbers(x))
            low, high = max(low, below), max(high, above)
            scale = Fraction(float(nearest((Fraction(low) + Fraction(high)) / 255)))
            zero = min(255, max(0, round(Fraction(low) / scale)))
            for a, b in zip(numbers(x).ravel().tolist(), y.ravel().tolist(), strict=True):
                if math.isfinite(a):
                    code = min(255, max(0, round(Fraction(a) / scale) + zero))
                    assert b == np.float32(float((code - zero) * scale))

    def test_powers_of_two(self) -> None:
        """By frexp and the element of ml_dtypes."""
        format, observer = "scaled<e4m3fn,e8m0,channel1>", MovingAverage(0.5)
        layer, average = Quantizer(format, observer=observer), None
        for seed in range(4):
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed)) * 2.0**seed
            y = layer(x)
            current = np.abs(numbers(x)).max(0)
            average = current if average is None else (average + current) / 2
            scale = np.ldexp(1.0, np.frexp(average)[1] - 1 - 8)
            quotients = np.clip(numbers(x) / scale, -448, 448).astype(np.float32)
            want = quotients.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
            np.testing.assert_array_equal(numbers(y), want)

    def test_scales_of_scales(self) -> None:
        """The outer one is static; those of groups follow from it and the input."""
        layer, largest = Quantizer("nvfp4", observer=MinMax()), 0.0
        for x in inputs():
            y = layer(x)
            largest = max(largest, reach(numbers(x)))
            outer = torch.tensor(nearest(Fraction(largest) / 2688))
            assert_same(y, lowprec.quantize(x, "nvfp4", scale=(None, outer)))
        small = torch.rand(9, 21, generator=torch.Generator().manual_seed(7))
        assert_same(layer(small), lowprec.quantize(small, "nvfp4", scale=(None, outer)))
        assert not torch.equal(layer(small), lowprec.quantize(small, "nvfp4"))

    @pytest.mark.parametrize("observer", ALL, ids=repr)
    @pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4"])
    def test_one_scale_for_tensors_of_any_shape(self, format: str, observer: Observer) -> None:
        layer = Quantizer(format, observer=observer)
        flat = Quantizer(format, observer=observer)
        for shape in ((4, 48), (48,), (2, 3, 16)):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
            assert_same(layer(x).flatten(), flat(x.view(1, -1)).flatten())
        if format != "nvfp4":  # which has groups along an axis
            assert layer.eval()(torch.tensor(0.0)).shape == ()

    def test_channels_keep_their_scales_for_every_batch(self) -> None:
        layer = Quantizer(CHANNELS, observer=MinMax())
        x = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(5))
        want = layer(x)
        assert_same(layer(x[:2]), want[:2])

    @pytest.mark.parametrize("observer", [MinMax, MeanSquaredError, Percentile], ids=lambda o: o.__name__)
    @pytest.mark.parametrize("format", ["int8", "uint8", "scaled<e4m3fn,float32,amax>"])
    def test_a_number_alone_is_observed_as_a_vector_of_one(self, format: str, observer) -> None:
        alone, vector = (Quantizer(format, observer=observer()) for _ in range(2))
        x = torch.tensor(-0.7)
        assert torch.equal(alone(x).reshape(1), vector(x.reshape(1)))
        assert torch.equal(alone.observed.statistic, vector.observed.statistic[0])

    def test_nothing_is_observed_in_evaluation_nor_of_nothing(self) -> None:
        layer = Quantizer("int8", observer=MinMax())
        assert layer(torch.zeros(0, 3)).shape == (0, 3)
        assert layer.observed.statistic is None
        layer(torch.tensor([127.0]))
        assert layer.eval()(torch.tensor([1000.0, 0.4])).tolist() == [127.0, 0.0]
        assert layer(torch.zeros(0, 3)).shape == (0, 3)
        assert_state(layer, np.array(127.0))
        layer.train()(torch.tensor([254.0]))
        assert_state(layer, np.array(254.0))

    def test_delayed_scales_in_evaluation_are_the_next_ones(self) -> None:
        layer = Quantizer("int8", observer=Delayed(history=2))
        for value in (127.0, 254.0, 381.0):
            layer(torch.tensor([value]))
        assert layer.eval()(torch.tensor([1000.0])).item() == 381.0


class TestGradients:
    @pytest.mark.parametrize(
        ("format", "largest", "limit", "beyond"),
        [
            ("int8", 1.0, 127.5 / 127, 128 / 127),
            ("uint8", 0.99, 128 / 127.5, 130 / 127.5),  # the zero point lies between two integers
            ("nvfp4", 1.0, 7 / 6, 8 / 6),
            (CHANNELS, 1.0, 464 / 448, 480 / 448),
            ("scaled<e2m1,e8m0>", 6 / 4, 7 / 4, 8 / 4),
        ],
    )
    @pytest.mark.parametrize("rounding", ["nearest_even", STOCHASTIC])
    def test_none_where_overflow_fired_with_the_scales_in_use(
        self, format, largest, limit, beyond, rounding
    ) -> None:
        small = torch.linspace(-1, 1, 64).view(4, 16)
        layer = Quantizer(format, observer=Delayed(), rounding=rounding, clip_gradient=True)
        layer(small)
        x = (small * 3.1).requires_grad_()
        y = layer(x)
        layer(small * 100)  # other scales by the time of the backward
        error = torch.arange(64.0).view(4, 16) + 1
        y.backward(error)
        relative = x.detach().abs() / small.abs().amax(0 if format == CHANNELS else (0, 1))
        kept = x.grad != 0
        assert_same(x.grad, torch.where(kept, error, 0.0))
        if rounding == "nearest_even":
            assert_same(kept, relative < limit)
        assert kept[relative <= largest].all()
        assert not kept[relative >= beyond].any()

    def test_the_noise_of_the_forward_decides(self) -> None:
        """Between the largest value and the next one, overflow fires with a probability."""
        layer = Quantizer("scaled<e4m3fn<infinity>,float32,amax>", observer=MinMax(),
                          rounding=STOCHASTIC, clip_gradient=True)  # fmt: skip
        layer(torch.tensor([448.0]))
        x = torch.full((2000,), 464.0).requires_grad_()
        y = layer.eval()(x)
        y.backward(torch.ones(2000))
        assert 800 < y.isnan().sum() < 1200
        assert_same(x.grad, (~y.isnan()).float())

    def test_rules_and_errors(self) -> None:
        seen = []

        def rule(gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
            seen.append((x, y))
            return gradient * 3

        layer = Quantizer("uint8", "e5m2", observer=MinMax(), gradient=rule)
        x = torch.tensor([0.3, -1.0, 255.0], requires_grad=True)
        y = layer(x)
        y.backward(torch.tensor([0.1, 0.2, 0.3]))
        assert_same(seen[0][0], x.detach())
        assert_same(seen[0][1], y.detach())
        assert_same(x.grad, lowprec.quantize(torch.tensor([0.1, 0.2, 0.3]) * 3, "e5m2"))

    @pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4"])
    def test_straight_through_twice(self, format: str) -> None:
        x = torch.tensor([0.5, 2.0, -4.0], requires_grad=True)
        y = Quantizer(format, observer=MinMax())(x)
        (first,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        assert_same(first.detach(), (3 * y**2).detach())
        (second,) = torch.autograd.grad(first.sum(), x)
        assert_same(second, (6 * y).detach())

    def test_recording_counts_with_the_scales_in_use(self) -> None:
        for layer, want in ((Quantizer("int8"), 0), (Quantizer("int8", observer=Delayed()), 2)):
            layer(torch.tensor([1.0]))
            with record(layer) as recording:
                layer(torch.tensor([3.0, -2.0, 0.5, 1e-6]))
            counters = recording.counters["(model)", "input"]
            assert (counters.count, counters.saturated, counters.underflowed) == (4, want, 1)


@pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4", CHANNELS])
@pytest.mark.parametrize("observer", ALL, ids=repr)
class TestModule:
    def seen(self, format: str, observer: Observer) -> Quantizer:
        """One that has seen data."""
        layer = Quantizer(format, observer=observer)
        for x in inputs(count=2):
            layer(x)
        return layer

    def test_copies_go_on_alike(self, format: str, observer: Observer) -> None:
        layer = self.seen(format, observer)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        copies = [
            copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)
        ]  # fmt: skip
        for x in inputs()[2:]:
            want = layer(x)
            for twin in copies:
                assert_same(twin(x), want)
                assert_same(twin.observed.statistic, layer.observed.statistic)
        assert repr(copies[0]) == repr(layer)

    @pytest.mark.parametrize("assign", [False, True])
    def test_state_loads_into_one_that_has_seen_nothing(self, format, observer, assign) -> None:
        model = torch.nn.Sequential(self.seen(format, observer))
        assert list(model.state_dict()) == ["0.observed.statistic"]
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other = torch.nn.Sequential(Quantizer(format, observer=observer)).eval()
        other.load_state_dict(torch.load(file, weights_only=True), assign=assign)
        x = inputs()[2]
        assert_same(other(x), model.eval()(x))
        for x in inputs()[3:]:
            assert_same(other.train()(x), model.train()(x))

    def test_moves_do_not_touch_the_statistic(self, format: str, observer: Observer) -> None:
        layer = self.seen(format, observer)
        want = layer.observed.statistic.clone()
        for move in (layer.half, layer.bfloat16, layer.float, layer.double):
            assert_same(move().observed.statistic, want)
        assert layer.to("meta").observed.statistic.is_meta
        assert layer.to_empty(device="cpu").observed.statistic.dtype == torch.float64

    def test_modes_of_torch_do_not_matter(self, format: str, observer: Observer) -> None:
        want, layer = self.seen(format, observer), Quantizer(format, observer=observer)
        first, second = inputs(count=2)
        with torch.inference_mode():
            layer(first)
        layer(second.requires_grad_())
        assert_state(layer, want.observed.statistic.numpy())
        with torch.inference_mode():
            layer(second)
        assert not layer.observed.statistic.is_inference()

    def test_a_checkpoint_observes_once(self, format: str, observer: Observer) -> None:
        for reentrant in (False, True):
            layers = [Quantizer(format, observer=observer, clip_gradient=True) for _ in range(2)]
            for step in (1.0, 3.0, 2.0):
                results = []
                for layer, run in zip(layers, (checkpoint, lambda f, x, **_: f(x)), strict=True):
                    x = (spread(4, 32).nan_to_num(0.0, 1.0, -1.0) * step).requires_grad_()
                    run(lambda x, layer=layer: layer(x) ** 2, x, use_reentrant=reentrant).sum().backward()
                    results += [x.grad, layer.observed.statistic]
                assert_same(results[0], results[2])
                assert_same(results[1], results[3])

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_compiled(self, format: str, observer: Observer) -> None:
        torch.compiler.reset()
        layers = [Quantizer(format, "e5m2", observer=observer, clip_gradient=True) for _ in range(2)]
        compiled = torch.compile(layers[0], fullgraph=True, backend="aot_eager")
        for call in range(4):  # the first one makes the buffer
            if call == 3:
                layers = [layer.eval() for layer in layers]
            results = []
            for layer, run in ((layers[0], compiled), (layers[1], layers[1])):
                x = (spread(4, 32, seed=call).nan_to_num(0.0, 1.0, -1.0) * 3.0**call).requires_grad_()
                y = run(x)
                y.sum().backward()
                results.append((y.detach(), x.grad, layer.observed.statistic))
            for one, other in zip(*results, strict=True):
                assert_same(one, other)
        torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("observer", ALL, ids=repr)
def test_a_checkpoint_in_a_graph(observer: Observer) -> None:
    name = "skip_fwd_side_effects_in_bwd_under_checkpoint"
    import torch._dynamo  # which `import torch` leaves out

    torch.compiler.reset()
    layers = [Quantizer("int8", observer=observer) for _ in range(2)]
    compiled = torch.compile(
        lambda x: checkpoint(lambda x: layers[0](x) ** 2, x, use_reentrant=False),
        fullgraph=True,
        backend="aot_eager",
    )
    for layer in layers:
        layer(torch.ones(3))
    with pytest.raises(Exception, match=name):
        compiled(torch.ones(3, requires_grad=True))
    with torch._dynamo.config.patch(name, True):
        for step in (1.0, 3.0, 2.0):
            gradients = []
            for run in (compiled, lambda x: layers[1](x) ** 2):
                x = torch.tensor([0.3, -step, step / 3], requires_grad=True)
                run(x).sum().backward()
                gradients.append(x.grad)
            assert_same(*gradients)
            assert_same(*(layer.observed.statistic for layer in layers))
    torch.compiler.reset()


def test_a_state_of_before_the_first_input_loads() -> None:
    empty = Quantizer("int8", observer=MinMax())
    Quantizer("int8", observer=MinMax()).load_state_dict(empty.state_dict())
    seen = Quantizer("int8", observer=MinMax())
    seen(torch.ones(2))
    with pytest.raises(RuntimeError, match=r'Missing key.*"observed.statistic"'):
        seen.load_state_dict(empty.state_dict())
    other = Quantizer(CHANNELS, observer=MinMax())
    other(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="size mismatch"):
        seen.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("format", "observer", "loaded", "message"),
    [
        ("int8", MinMax(), torch.ones(1), "`observed.statistic` must be a float64 tensor, got torch.float32"),
        ("int8", MinMax(), 3.0, "must be a float64 tensor, got <class 'float'>"),
        ("int8", MinMax(), torch.tensor([-1.0]).double(), "must be finite and not negative, got"),
        ("int8", MinMax(), torch.tensor([math.nan]).double(), "must be finite and not negative, got"),
        ("int8", Delayed(3), torch.ones(2, 1).double(), r"must have a shape \(3, Ellipsis\), got \(2, 1\)"),
        ("uint8", MinMax(), torch.ones(1, 1).double(), r"must have a shape \(Ellipsis, 2\), got \(1, 1\)"),
        ("uint8", Delayed(2), torch.ones(2).double(), r"must have a shape \(2, Ellipsis, 2\), got \(2,\)"),
    ],
)  # fmt: skip
def test_damaged_states(format, observer, loaded, message) -> None:
    layer = Quantizer(format, observer=observer)
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict({"observed.statistic": loaded})
    assert layer.observed.statistic is None


@pytest.mark.parametrize("format", GROUPS)
def test_operators(format: str) -> None:
    x = spread(4, 16).nan_to_num(0.0, 1.0, -1.0)
    operators = torch.ops.lowprec
    for percent, steps in (("100", 1), ("99.9", 1), ("100", 3)):
        opcheck(operators.statistic.default, (x, format, percent, steps))
    opcheck(operators.scales_from.default, (operators.statistic(x, format, "100", 1), format))


@pytest.mark.parametrize("rest", [(), (1,), (0, 5), (0, 0, [16, 1]), (2, 3, [32, 2])], ids=repr)
@pytest.mark.parametrize("format", ["int8", "uint8", "nvfp4", None])
def test_gradient_of_quantize_with(format: str | None, rest: tuple[object, ...]) -> None:
    """The dispatcher leaves trailing defaults out, and lists have a structure."""
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(8)).requires_grad_()
    scales = [None, torch.ones(1, 1)]
    if format is not None:
        found = lowprec.scales(x, format)
        scales = [found] if isinstance(found, Tensor) else list(found)
    seed, error = torch.tensor([5]), torch.arange(64.0).view(4, 16)
    y = torch.ops.lowprec.quantize_with(x, scales, seed, format or "nvfp4", STOCHASTIC, 32, *rest)
    y.backward(error)
    assert_same(x.grad, error)


def test_repr_shows_the_observer() -> None:
    layer = Quantizer("int8", observer=Percentile(99))
    assert "(observed): Observed(Percentile(percent=99, momentum=0.9))" in repr(layer)
    assert Percentile(99) == Percentile(99)
    assert len({*ALL, MinMax()}) == len(ALL)


def test_processes_synchronize(tmp_path) -> None:
    torch.multiprocessing.spawn(ranks.synchronized, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}") for rank in range(2))
    assert first.keys() == second.keys() == {*ranks.OBSERVERS, "late", "other"}
    for name in ranks.OBSERVERS:
        assert_same(first[name], second[name])
    assert first["largest"].tolist() == [[1e308]]
    assert first["ends"].tolist() == [[[8.0, 1e308]]]
    averages = [[2 + 0.9 * (1.0 - 2), 4 + 0.9 * (8.0 - 4)], [0.5 + 0.9 * 5.5, 1e308 + 0.9 * (3 - 1e308)]]
    np.testing.assert_allclose(first["mean"].numpy(), [np.mean(averages, axis=0)], rtol=1e-15)
    assert first["history"].flatten().tolist() == [0.0, 8.0, 1e308]
    for found in (first, second):
        assert "`synchronize` must follow a call of the Quantizer" in found["late"]
        assert "shapes [None, (1, 1)]" in found["late"]
        assert "shapes [(1, 1), (2, 1)]" in found["other"]


def unseen() -> Quantizer:
    """A Quantizer in evaluation before its first call."""
    return Quantizer("int8", observer=MinMax()).eval()


def within_a_backward() -> None:
    """A Quantizer's first call, by a hook."""
    x = torch.ones(2, requires_grad=True)
    x.register_hook(Quantizer("int8", observer=MinMax()))
    x.sum().backward()


def other_groups(first: tuple[int, ...], second: tuple[int, ...], *, training: bool) -> None:
    """Inputs whose groups differ."""
    layer = Quantizer("scaled<ufixed8f0,float32,channel0,amax,zero_point>", observer=Delayed())
    layer(torch.ones(first))
    layer.train(training)(torch.ones(second))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Quantizer("int8", observer="minmax"), TypeError,
         "`observer` must be one of lowprec.observers, got 'minmax'."),
        (lambda: Quantizer("int8", observer=MinMax), TypeError, "Call the class: observers.MinMax()."),
        (lambda: Quantizer(observer=MinMax()), ValueError, "`observer` must be None without a format"),
        (lambda: Quantizer("e4m3fn", observer=MinMax()), ValueError,
         "`format` must be a scaled format where an observer is given, got 'e4m3fn'"),
        (lambda: Quantizer("scaled<e2m1,e8m0,mse>", observer=MinMax()), ValueError,
         "`format` must have another scale rule than 'mse' where an observer is given, got 'scaled<e2m1,e8"),
        (lambda: MovingAverage(1), ValueError, "`momentum` must be at least 0 and below 1, got 1"),
        (lambda: MovingAverage(math.nan), ValueError, "`momentum` must be at least 0 and below 1, got nan"),
        (lambda: Percentile(momentum="0.9"), TypeError, "`momentum` must be a number, got '0.9'"),
        (lambda: Percentile(0), ValueError, "`percent` must lie above 0 and be at most 100, got 0"),
        (lambda: Percentile(100.5), ValueError, "`percent` must lie above 0 and be at most 100, got 100.5"),
        (lambda: Percentile(True), TypeError, "`percent` must be a number, got True"),
        (lambda: MeanSquaredError(0), ValueError, "`steps` must be at least 1, got 0"),
        (lambda: MeanSquaredError(2.0), TypeError, "`steps` must be an integer, got 2.0"),
        (lambda: MeanSquaredError(momentum=-1), ValueError, "`momentum` must be at least 0 and below 1"),
        (lambda: Delayed(0), ValueError, "`history` must be at least 1, got 0"),
        (lambda: Delayed(True), TypeError, "`history` must be an integer, got True"),
        (lambda: Delayed(margin=0.5), TypeError, "`margin` must be an integer, got 0.5"),
        (lambda: Delayed(margin=-128), ValueError, "`margin` must lie within ±127, got -128"),
        (lambda: unseen()(torch.ones(2)), RuntimeError, "must have seen data before eval(). Call the Quant"),
        (lambda: torch.compile(unseen(), fullgraph=True, backend="aot_eager")(torch.ones(2)), Exception,
         "must have seen data before eval()"),
        (within_a_backward, RuntimeError,
         "`observer` must have seen data before the Quantizer is called within a backward"),
        (lambda: other_groups((2, 3), (3, 3), training=True), ValueError,
         "`x` must have groups in the shape (2, 1) that was observed first, got (3, 1). Under PerTensor"),
        (lambda: other_groups((2, 3), (3, 3), training=False), ValueError, "in the shape (2, 1)"),
        (lambda: other_groups((2, 3), (2, 3, 1), training=True), ValueError, "in the shape (2, 1)"),
        (lambda: torch.vmap(Quantizer("int8", observer=MinMax()))(torch.ones(2, 2)), RuntimeError,
         "`observer` must be None under the transforms of torch.func"),
        (lambda: torch.func.grad(lambda x: Quantizer("int8", observer=MinMax())(x).sum())(torch.ones(2)),
         RuntimeError, "`observer` must be None under the transforms of torch.func"),
        (lambda: Quantizer("int8").synchronize(), RuntimeError,
         "`synchronize` must be called on a Quantizer with an observer"),
        (lambda: Quantizer("int8", observer=MinMax()).synchronize(), RuntimeError,
         "`synchronize` must be called where torch.distributed runs. Call torch.distributed.init_process"),
        (lambda: Observer().update(None, torch.ones(())), NotImplementedError, ""),
    ],
)  # fmt: skip
def test_errors(build: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        build()
    assert message in str(raised.value)
