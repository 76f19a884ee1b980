"""audit leaves everything as it was, and refuses what it cannot audit."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import lowprec
from lowprec.restoring import same_model, same_random_state


class Busy(nn.Module):
    """A model that changes itself in every way, draws numbers, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear, self.dropout = nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Dropout()
        self.cast = lowprec.Quantizer("int8", observer=lowprec.observers.MovingAverage())
        self.calls, self.seen, self.fails = 0, [], False
        self.register_buffer("peak", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        self.peak = x.detach().max().reshape(1)
        x.relu_()
        with torch.no_grad():
            self.linear.weight.mul_(2)
        random.random()
        np.random.rand()  # noqa: NPY002
        y = self.dropout(self.linear(self.cast(self.norm(x))))
        self.eval()
        if self.fails:
            message = "on purpose"
            raise RuntimeError(message)
        return y


def snapshot(model: nn.Module) -> list:
    """All there is to see of a model."""
    return [
        copy.deepcopy(model.state_dict()),
        [(name, type(m), m.training, sorted(m.__dict__)) for name, m in model.named_modules()],
        [(n, id(p), p.requires_grad, id(p.grad), p.data_ptr()) for n, p in model.named_parameters()],
        [(n, id(b)) for n, b in model.named_buffers()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        model.calls, list(model.seen), model.cast.observed.statistic,
    ]  # fmt: skip


def assert_same(before: list, after: list) -> None:
    assert before[0].keys() == after[0].keys()
    for key, tensor in before[0].items():
        assert torch.equal(tensor, after[0][key]), key
    assert before[1:] == after[1:]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("convert", [False, True])
def test_a_model_is_left_as_it_was(fails, convert) -> None:
    model = Busy()
    if convert:
        lowprec.convert(model, "bfp8-sr")
    model.fails = fails
    gradient = torch.full((4, 4), 3.0)
    model.linear.weight.grad = gradient
    x = torch.tensor([[-1.0, 1, 2, 3], [4, 5, -6, 7]], requires_grad=False)
    given = x.clone()
    before = snapshot(model)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            lowprec.audit(model, x)
    else:
        assert lowprec.audit(model, x).has_backward
    assert_same(before, snapshot(model))
    assert model.linear.weight.grad is gradient
    assert torch.equal(gradient, torch.full((4, 4), 3.0))
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_inputs_keep_their_gradients_and_graphs() -> None:
    source = torch.ones(2, 4, requires_grad=True)
    x = source * 2
    lowprec.audit(nn.Linear(4, 3), x)
    lowprec.audit(nn.Linear(4, 3), source)
    assert source.grad is None
    x.sum().backward()
    assert torch.equal(source.grad, torch.full((2, 4), 2.0))


def test_no_optimizer_steps_within_the_backward() -> None:
    model = nn.Linear(4, 3)
    stepped = []
    model.weight.register_post_accumulate_grad_hook(stepped.append)
    lowprec.audit(model, torch.ones(2, 4))
    assert not stepped
    model(torch.ones(2, 4)).sum().backward()
    assert len(stepped) == 1


def test_an_audit_within_no_grad_or_inference_mode_is_the_same() -> None:
    model = nn.Linear(4, 3)
    expected = lowprec.audit(model, torch.ones(2, 4))
    with torch.no_grad():
        assert lowprec.audit(model, torch.ones(2, 4)) == expected
    with torch.inference_mode():
        assert lowprec.audit(model, torch.ones(2, 4)) == expected


def test_a_model_that_uses_inference_mode_is_seen() -> None:
    class Frozen(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return super().forward(x)

    audit = lowprec.audit(Frozen(4, 3), torch.ones(2, 4))
    assert audit.multiply_adds == 24
    assert not audit.has_backward


def test_the_results_of_training_do_not_change() -> None:
    def trained(audits: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = lowprec.convert(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()), "bfp8-sr")
        for _ in range(2):
            model(torch.randn(3, 4)).square().sum().backward()
            if audits:
                lowprec.audit(model, torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))
        return model[0].weight.grad

    assert torch.equal(trained(audits=True), trained(audits=False))


def test_what_moved_to_other_memory_comes_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = {name: (tensor, tensor.data_ptr()) for name, tensor in model.state_dict(keep_vars=True).items()}
    with same_model(model):
        model.half()
        model[0].weight.requires_grad_(False)
        model.extra = 3
        del model[1].eps
    after = model.state_dict(keep_vars=True)
    assert {name: (id(t), t.data_ptr(), t.dtype) for name, t in after.items()} == {
        name: (id(t), pointer, t.dtype) for name, (t, pointer) in before.items()
    }
    assert after["0.weight"].dtype == torch.float32
    assert after["0.weight"].requires_grad
    assert not hasattr(model, "extra")
    assert model[1].eps == 1e-5


def test_a_random_state_begins_where_it_is_told() -> None:
    drawn = []
    for _ in range(2):
        with same_random_state(7):
            drawn.append((float(torch.rand(1)), random.random(), float(np.random.rand())))  # noqa: NPY002
    assert drawn[0] == drawn[1]


def test_only_modules_can_be_audited() -> None:
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got <class 'int'>"):
        lowprec.audit(3)


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`model` must not be compiled, got 'OptimizedModule'\. Audit the"):
        lowprec.audit(torch.compile(nn.Linear(2, 2), backend="eager"), torch.ones(1, 2))
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].compile(backend="eager")
    with pytest.raises(ValueError, match=r"`model` must not be compiled, got '0'\."):
        lowprec.audit(model, torch.ones(1, 2))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_is_refused() -> None:
    model = nn.Sequential(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)))
    with pytest.raises(ValueError, match="`model` must not be a script of TorchScript, got '0'"):
        lowprec.audit(model, torch.ones(1, 2))


def test_parameters_without_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="`model` must know the shapes of its parameters, got 'weight'"):
        lowprec.audit(nn.LazyLinear(2), torch.ones(1, 2))


def test_a_loss_must_be_a_function_to_one_number() -> None:
    model, x = nn.Linear(2, 2), torch.ones(1, 2)
    with pytest.raises(TypeError, match="`loss` must be a function of the model's output, got 3"):
        lowprec.audit(model, x, loss=3)
    with pytest.raises(TypeError, match=r"`loss` must return a tensor, got <class 'float'>"):
        lowprec.audit(model, x, loss=lambda _: 1.0)
    with pytest.raises(ValueError, match=r"`loss` must return one number, got \(1, 2\)\. Take its sum"):
        lowprec.audit(model, x, loss=lambda y: y)
