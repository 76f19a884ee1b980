"""What the rows of the table of differences in docs/from_qpytorch.md say, as functions of a package."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, RMSprop

CASES: dict[str, Callable[[Any], Any]] = {}


def case(function):
    """Take up a function under its name, with hyphens."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def tensor(*values):
    """Values as float32."""
    return torch.tensor(values, dtype=torch.float32)


def above(x):
    """The next float32."""
    return torch.nextafter(tensor(x), tensor(float("inf"))).item()


def below(x):
    """The one before."""
    return torch.nextafter(tensor(x), tensor(-float("inf"))).item()


@case
def float_23_bits(q):
    return q.quant.float_quantize(tensor(3.0), 8, 23, "nearest").item()


@case
def float_powers_of_two(q):
    return q.FloatingPoint(5, 0).man


@case
def float_nan(q):
    payload = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    return q.quant.float_quantize(torch.cat([tensor(float("nan")), payload]), 5, 2, "nearest").tolist()


@case
def float_negative_zero(q):
    return q.quant.float_quantize(tensor(-0.0, -1e-9), 5, 2, "nearest").tolist()


@case
def float_subnormal(q):
    return q.quant.float_quantize(tensor(below(2.0**-17)), 5, 2, "nearest").item() * 2.0**16


@case
def float_seed(q):
    return repeats(lambda x: q.quant.float_quantize(x, 5, 2))


@case
def block_seed(q):
    return repeats(lambda x: q.quant.block_quantize(x, 4))


def repeats(function):
    """Whether one seed gives the same bits twice."""
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(function(torch.linspace(-1, 1, 999)))
    return torch.equal(*results)


@case
def fixed_far_from_zero(q):
    return q.quant.fixed_point_quantize(tensor(4194304.5), 32, 1, rounding="nearest").item()


@case
def fixed_noise_on_the_grid(q):
    torch.manual_seed(0)
    x = torch.full((999,), 2097152.5)
    return torch.equal(q.quant.fixed_point_quantize(x, 32, 1), x)


@case
def fixed_above_a_tie(q):
    return q.quant.fixed_point_quantize(tensor(above(0.25)), 8, 1, rounding="nearest").item()


@case
def fixed_negative_zero(q):
    return q.quant.fixed_point_quantize(tensor(-0.1), 8, 1, rounding="nearest").item()


@case
def fixed_large(q):
    return q.quant.fixed_point_quantize(tensor(2.0**125), 8, 6, clamp=False, rounding="nearest").item()


@case
def fixed_integers(q):
    return q.FixedPoint(8, 0).fl


@case
def fixed_no_width(q):
    return q.quant.fixed_point_quantize(tensor(1.0), -1, -1, rounding="nearest").item()


@case
def block_one_bit(q):
    return q.quant.block_quantize(tensor(-1.5, 0.5, 1.5), 1, rounding="nearest").tolist()


@case
def block_23_bits(q):
    return q.quant.block_quantize(tensor(1.5, 0.25), 23, rounding="nearest").tolist()


@case
def block_below_a_tie(q):
    return q.quant.block_quantize(tensor(1.0, below(0.125)), 4, rounding="nearest").tolist()


@case
def block_large(q):
    return q.quant.block_quantize(tensor(1.5, 0.5) * 2.0**126, 4, rounding="nearest").mul(2.0**-126).tolist()


@case
def block_subnormal(q):
    x = tensor(1.5, 0.375).double() * 2.0**-140
    return (q.quant.block_quantize(x.float(), 4, rounding="nearest").double() * 2.0**140).tolist()


@case
def block_nan(q):
    return q.quant.block_quantize(tensor(1.0, float("nan")), 4, rounding="nearest").tolist()


@case
def block_infinity(q):
    return q.quant.block_quantize(tensor(1.0, float("inf")), 4, rounding="nearest").tolist()


@case
def block_empty(q):
    return q.quant.block_quantize(tensor(), 4, rounding="nearest").tolist()


@case
def other_dtypes(q):
    return q.quant.float_quantize(torch.tensor([0.3], dtype=torch.bfloat16), 5, 2, "nearest").tolist()


@case
def number_is_checked(q):
    return q.FixedPoint(8, 6, clamp="no").clamp


@case
def number_is_a_value(q):
    return q.FixedPoint(8, 6) == q.FixedPoint(8, 6)


@case
def number_does_not_change(q):
    number = q.FixedPoint(8, 6)
    rounding = q.quant.quantizer(number, forward_rounding="nearest")
    number.fl = 1
    return rounding(tensor(0.3)).item()


@case
def wrong_rounding(q):
    return q.quant.quantizer(forward_rounding="up")


def gradient_of(function, x, g):
    """The gradient of the input of a function."""
    x = tensor(*x).requires_grad_()
    return torch.autograd.grad(function(x), x, tensor(*g))[0].tolist()


@case
def hooks_without_mask(q):
    number = q.FixedPoint(8, 4)
    function = q.quant.quantizer(number, number, "nearest", "nearest", backward_hooks=[torch.neg])
    return gradient_of(function, [1.0], [2.0])


@case
def hooks_without_backward_number(q):
    number = q.FixedPoint(8, 4)
    function = q.quant.quantizer(number, None, "nearest", clamping_grad_zero=True, backward_hooks=[torch.neg])
    return gradient_of(function, [1.0], [2.0])


@case
def mask_without_backward_number(q):
    function = q.quant.quantizer(q.FixedPoint(8, 4), None, "nearest", clamping_grad_zero=True)
    return gradient_of(function, [1.0, 99.0], [2.0, 2.0])


@case
def quantizer_pickle(q):
    return len(pickle.dumps(q.quant.Quantizer(q.FixedPoint(8, 6)))) > 0


def stepped(q, optimizer=None, **options):
    """A weight of ones, its gradient 0.5, and an OptimLP around SGD or another optimizer, not yet stepped."""
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), 0.5)
    return weight, q.optim.OptimLP(
        (optimizer or (lambda p: SGD(p, lr=1.0, momentum=0.5)))([weight]), **options
    )


def coarse(q):
    """Rounding to quarters."""
    return q.quant.quantizer(q.FixedPoint(8, 2), forward_rounding="nearest")


@case
def optim_grad_scaling(q):
    weight, optimizer = stepped(q, grad_scaling=0.5)
    optimizer.step()
    return weight.tolist()


@case
def optim_closure(q):
    calls = []
    _, optimizer = stepped(q)
    optimizer.step(lambda: calls.append(1))
    return len(calls)


@case
def optim_state_dict(q):
    _, optimizer = stepped(q, acc_quant=coarse(q))
    optimizer.step()
    saved = optimizer.state_dict()
    return len(saved["state"]), len(saved.get("OptimLP", {}).get("accumulators", []))


@case
def optim_load_state_dict(q):
    _, optimizer = stepped(q)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    scheduler.step()
    return optimizer.optim.param_groups[0]["lr"]


@case
def optim_others(q):
    weight, optimizer = stepped(q, RMSprop, momentum_quant=coarse(q))
    optimizer.step()
    return optimizer.optim.state[weight]["square_avg"].tolist()


@case
def optim_amsgrad(q):
    weight, optimizer = stepped(
        q, lambda p: Adam(p, betas=(0.5, 0.5), amsgrad=True), momentum_quant=coarse(q)
    )
    optimizer.step()
    return optimizer.optim.state[weight]["max_exp_avg_sq"].tolist()


@case
def optim_copy(q):
    _, optimizer = stepped(q, acc_quant=coarse(q))
    twin = copy.deepcopy(optimizer)
    twin.step()
    return twin.param_groups[0]["params"][0].tolist()


@case
def optim_later_group(q):
    _, optimizer = stepped(q, acc_quant=coarse(q))
    later = nn.Parameter(torch.full((1,), 0.3))
    optimizer.add_param_group({"params": [later]})
    optimizer.step()
    return later.tolist()


@case
def optim_loaded_weights(q):
    weight, optimizer = stepped(q, acc_quant=coarse(q))
    with torch.no_grad():
        weight.fill_(9.0)
    optimizer.step()
    return weight.tolist()


@case
def optim_memory(q):
    weight, optimizer = stepped(q, lambda p: SGD(p, lr=0.75), weight_quant=coarse(q))
    view = weight.detach()
    optimizer.step()
    return view.tolist()


@case
def optim_number(q):
    return type(stepped(q, weight_quant=q.FixedPoint(8, 2))[1]).__name__


@case
def optim_wrong_scaling(q):
    return stepped(q, grad_scaling=0.0)


@case
def lower_keywords(q):
    layer = nn.ReLU()
    q.auto_low.lower(layer, ["activation"], q.FixedPoint(8, 2), forward_rounding="nearest")
    return layer(input=tensor(0.3)).item()


@case
def lower_copy(q):
    layer = nn.Linear(1, 1, bias=False)
    q.auto_low.lower(layer, ["linear"], q.FixedPoint(8, 2), forward_rounding="nearest")
    nn.init.ones_(layer.weight)
    twin = copy.deepcopy(layer)
    nn.init.zeros_(twin.weight)
    return twin(tensor(1.0)).item()


@case
def lower_pickle(q):
    layer = nn.ReLU()
    q.auto_low.lower(layer, ["activation"], q.FixedPoint(8, 2))
    return len(pickle.dumps(layer)) > 0


@case
def lower_indices(q):
    layer = nn.MaxPool1d(2, return_indices=True)
    q.auto_low.lower(layer, ["pool"], q.FixedPoint(8, 2), forward_rounding="nearest")
    return [part.tolist() for part in layer(tensor([0.3, 0.1]))]


@case
def lower_two_inputs(q):
    loss = q.auto_low.sequential_lower(nn.MSELoss(), ["loss"], q.FixedPoint(8, 2), forward_rounding="nearest")
    return loss(tensor(1.0), tensor(0.4)).item()


@case
def lower_shared(q):
    layer = nn.ReLU()
    model = nn.Sequential(nn.Sequential(layer), nn.Sequential(layer))
    lowered = q.auto_low.sequential_lower(model, ["activation"], q.FixedPoint(8, 2))
    return lowered[0][0] is lowered[1][0]


@case
def lower_unknown_kind(q):
    return q.auto_low.lower(nn.ReLU(), ["relu"], q.FixedPoint(8, 2))
