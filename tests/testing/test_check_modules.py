"""check_quantizer and check_optimizer pass what is right and show what is wrong."""

import shutil

import pytest
import torch

from lowprec import Cast, Quantizer, observers
from lowprec.optim import LowPrecision
from lowprec.testing import FormatError, check_optimizer, check_quantizer

QUANTIZERS = {
    "plain": lambda: Quantizer("e4m3fn"),
    "stochastic": lambda: Quantizer("e4m3fn", "e5m2", rounding="stochastic"),
    "clipped": lambda: Quantizer("e4m3fn", "e5m2", clip_gradient=True),
    "error only": lambda: Quantizer(None, "e5m2"),
    "a rule": lambda: Quantizer("e4m3fn", gradient=lambda grad, x, y: grad * 2),
    "groups": lambda: Quantizer("bfp8<group32>"),
    "scales": lambda: Quantizer("int8"),
    "observed": lambda: Quantizer("int8", observer=observers.MinMax()),
}


@pytest.mark.parametrize("make", QUANTIZERS.values(), ids=QUANTIZERS)
def test_right_quantizers_pass(make):
    report = check_quantizer(make)
    assert report.cases["same bits again and in copies"] > 0
    assert str(report).startswith("Quantizer(")
    assert check_quantizer(make(), shape=(3, 40)).cases.total() > 100


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="needs a C++ compiler"
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_bits():
    assert check_quantizer(Quantizer("e4m3fn"), compiled=True).cases["compiled gradients"] > 0


def test_a_quantizer_must_be_one():
    with pytest.raises(TypeError, match="`quantizer` must be a Quantizer or a function that makes one"):
        check_quantizer(lambda: torch.nn.Identity())


class Noisy(Quantizer):
    """Draws noise of its own."""

    def forward(self, x):
        return torch.where(torch.rand_like(x) < 0.5, -1, 1) * super().forward(x)


class OffGrid(Quantizer):
    """Adds a little."""

    def forward(self, x):
        return super().forward(x) + 2.0**-12


class Halved(Quantizer):
    """A gradient that is not the identity."""

    def forward(self, x):
        return super().forward(x / 2 + x.detach() / 2)


class ChangedByEval(Quantizer):
    """Rounds in training mode only."""

    def forward(self, x):
        return super().forward(x) if self.training else x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noisy("e4m3fn"), "outputs are the reference's"),
        (lambda: OffGrid("e4m3fn"), "outputs are values of the format"),
        (lambda: Halved("e4m3fn"), "gradients pass straight through"),
        (lambda: ChangedByEval("e4m3fn"), "same bits again and in copies"),
    ],
)
def test_wrong_quantizers_are_shown(make, message):
    with pytest.raises(FormatError, match=message) as raised:
        check_quantizer(make)
    assert "\n  got " in str(raised.value)
    assert "\n  want" in str(raised.value)


def test_a_gradient_that_is_not_clipped_is_shown(monkeypatch):
    class Unclipped(Quantizer):
        """Says that it clips."""

        def forward(self, x):
            self._clip_gradient = False
            try:
                return super().forward(x)
            finally:
                self._clip_gradient = True

    with pytest.raises(FormatError, match="gradients are zero exactly where overflow fired"):
        check_quantizer(lambda: Unclipped("e4m3fn", clip_gradient=True))


def made(**options):
    """A function that makes a model and its optimizer."""

    def make():
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
        inner = torch.optim.AdamW(model.parameters(), lr=0.01)
        return model, options.get("kind", LowPrecision)(
            inner, **{k: v for k, v in options.items() if k != "kind"}
        )

    return make


@pytest.mark.parametrize(
    "options",
    [
        {"weight": "e4m3fn", "state": "bfloat16", "gradient": "e5m2"},
        {"weight": Cast("fixed8f6", "stochastic"), "master": "bfloat16"},
        {"weight": "bfp8<group32>", "state": {"exp_avg": "bfloat16"}},
        {"weight": Cast("bfloat16", "stochastic"), "compensation": "kahan"},
        {"weight": "e4m3fn", "groups": {0: {"weight": Cast("fixed8f6", "stochastic"), "state": "e5m2"}}},
    ],
)
def test_right_optimizers_pass(options):
    report = check_optimizer(made(**options))
    assert report.cases["weights are values of the format"] > 0
    assert report.cases["save, load, step is step"] > 0
    assert report.cases["copy, step is step"] > 0
    assert (report.cases["compensations are values of the weights' format"] > 0) == (
        "compensation" in options
    )


class Drifting(LowPrecision):
    """Leaves the grid after a step."""

    def step(self, closure=None):
        result = super().step(closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(1e-3)
        return result


class Forgetful(LowPrecision):
    """Does not save the count of its steps, which the noise depends on."""

    def state_dict(self):
        state = super().state_dict()
        state["lowprec"]["step"] = 0
        return state


class Drawing(LowPrecision):
    """Uses up torch's generator."""

    def step(self, closure=None):
        torch.rand(1)
        return super().step(closure)


class Heedless(LowPrecision):
    """Steps in spite of an infinity."""

    def step(self, closure=None):
        self.found_inf = None
        return super().step(closure)


class Uncounted(LowPrecision):
    """Does not count what it skips."""

    def step(self, closure=None):
        return None if getattr(self, "found_inf", None) else super().step(closure)


class Counting(LowPrecision):
    """Uses up the noise of a step that is skipped."""

    def step(self, closure=None):
        result = super().step(closure)
        self._step += bool(getattr(self, "found_inf", False))
        return result


class Amnesic(LowPrecision):
    """Copies forget the count of steps."""

    def __getstate__(self):
        return {**super().__getstate__(), "_step": 0}


class Stale(LowPrecision):
    """Saves the weights as their masters."""

    def state_dict(self):
        state = super().state_dict()
        parameters = dict(self.numbered_parameters())
        state["lowprec"]["masters"] = {n: parameters[n].detach().clone() for n in state["lowprec"]["masters"]}
        return state


class Uncompensated(LowPrecision):
    """Keeps more of what is lost than its format can."""

    def _round_compensated(self, number, p):
        super()._round_compensated(number, p)
        self._compensations[number].add_(1e-3)


class OneForAll(LowPrecision):
    """Rounds every group as if it had no casts of its own."""

    def _casts_of(self, number):
        return self._base


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Drifting, "weights are values of the format"),
        (Forgetful, "save, load, step is step"),
        (Drawing, "torch's generator is left alone"),
        (Heedless, "a skipped step changes nothing"),
        (Uncounted, "a skipped step is counted"),
        (Counting, "a skipped step uses no noise"),
        (Amnesic, "copy, step is step"),
    ],
)
def test_wrong_optimizers_are_shown(kind, message):
    with pytest.raises(FormatError, match=message):
        check_optimizer(made(kind=kind, weight=Cast("fixed8f6", "stochastic")))


class Lossy(LowPrecision):
    """Saves the first byte of packed states wrong."""

    def state_dict(self):
        state = super().state_dict()
        for states in state["lowprec"]["packed"].values():
            for name, (codes, *scales) in states.items():
                states[name] = [codes ^ torch.eye(1, len(codes), dtype=torch.uint8)[0], *scales]
        return state


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Lossy, {"state": "e4m3fn", "store": "packed"}, "save, load, step is step"),
        (Stale, {"weight": "fixed8f6", "master": "binary32"}, "save, load, step is step"),
        (Uncompensated, {"weight": "bfloat16", "compensation": "kahan"},
         "compensations are values of the weights' format"),
        (OneForAll, {"weight": "bfloat16", "groups": {0: {"weight": "e4m3fn"}}},
         "weights are values of the format"),
    ],
)  # fmt: skip
def test_wrong_keepers_are_shown(kind, options, message):
    with pytest.raises(FormatError, match=message):
        check_optimizer(made(kind=kind, **options))


def test_what_makes_an_optimizer_must_make_one():
    with pytest.raises(TypeError, match="`make` must return a model and a LowPrecision optimizer"):
        check_optimizer(lambda: torch.nn.Linear(2, 2))
