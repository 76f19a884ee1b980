"""Parameter groups with casts of their own."""

import copy
import io
import pickle

import pytest
import torch
from optim.plain_steps import Plain, tensors
from torch import nn

from lowprec import Cast
from lowprec.optim import LowPrecision

BASE = {
    "weight": Cast("fixed8f6", "stochastic"),
    "gradient": Cast("e5m2", "stochastic"),
    "state": Cast("bfp8", "stochastic"),
    "master": Cast("bfloat16", "stochastic"),
}
CHANGES = {
    1: {"weight": Cast("e4m3fn", "stochastic"), "master": None},
    2: {"gradient": None, "state": {"exp_avg": Cast("bfloat16", "stochastic")}},
}
LATER = {"weight": None, "gradient": None, "state": None, "master": "binary32"}
SHAPES = [(3, 2), (2,), (4,), (), (3,)]
"""Two in the first group, one in the others; the last one is added later."""


def grouped(parameters):
    first, second, third, *_ = parameters[:2], parameters[2:3], parameters[3:4]
    groups = [{"params": first}, {"params": second, "lr": 0.02}, {"params": third, "weight_decay": 0.1}]
    return torch.optim.Adam(groups, lr=0.01, foreach=False)


def wrapped(seed=11):
    parameters = [nn.Parameter(x) for x in tensors(SHAPES, 0)]
    optimizer = LowPrecision(grouped(parameters), groups=CHANGES, seed=seed, **BASE)
    optimizer.add_param_group({"params": parameters[4:]}, casts=LATER)
    return optimizer


def step(optimizer, number):
    gradients = tensors(SHAPES, number + 1, scale=0.3)
    for (_, p), grad in zip(optimizer.numbered_parameters(), gradients, strict=True):
        p.grad = grad.clone()
    optimizer.step()
    return gradients


def test_steps_equal_the_steps_written_out():
    casts = [BASE, BASE, {**BASE, **CHANGES[1]}, {**BASE, **CHANGES[2]}, LATER]

    def make(parameters):
        inner = grouped(parameters)
        inner.add_param_group({"params": parameters[4:]})
        return inner

    optimizer, plain = wrapped(), Plain(make, tensors(SHAPES, 0), casts=casts, seed=11)
    plain.assert_equal(optimizer)
    for number in range(20):
        plain.step(step(optimizer, number))
        plain.assert_equal(optimizer)


@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_copies_go_on_with_the_same_bits(how):
    optimizer = wrapped()
    for number in range(3):
        step(optimizer, number)
    if how == "deepcopy":
        other = copy.deepcopy(optimizer)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(optimizer))
    else:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        other = wrapped(seed=3)
        for (_, p), (_, q) in zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True):
            q.data.copy_(p)
        other.load_state_dict(torch.load(file, weights_only=True))
    for number in range(3, 6):
        step(optimizer, number)
        step(other, number)
    for (_, p), (_, q) in zip(optimizer.numbered_parameters(), other.numbered_parameters(), strict=True):
        assert torch.equal(p, q)


def test_casts_of_groups_are_saved_as_text_and_compared():
    optimizer = wrapped()
    saved = optimizer.state_dict()
    assert saved["lowprec"]["groups"][1] == {
        "weight": ["e4m3fn", "stochastic", 32],
        "gradient": ["e5m2", "stochastic", 32],
        "state": ["bfp8", "stochastic", 32],
    }
    assert saved["lowprec"]["groups"][3] == {"master": ["binary32", "nearest_even", 32]}
    assert sorted(saved["lowprec"]["groups"]) == [1, 2, 3]
    parameters = [nn.Parameter(x) for x in tensors(SHAPES, 0)]
    other = LowPrecision(grouped(parameters), groups={1: CHANGES[1]}, **BASE)
    other.add_param_group({"params": parameters[4:]}, casts=LATER)
    with pytest.raises(ValueError, match=r"`state_dict` must have the groups \{1: .*, got \{1: .*exp_avg"):
        other.load_state_dict(saved)


def test_names_of_states_are_checked_in_their_groups():
    p, q = (nn.Parameter(torch.ones(2)) for _ in range(2))
    inner = torch.optim.SGD([{"params": [p], "momentum": 0.9}, {"params": [q]}], lr=0.1)
    named = {"state": {"momentum_buffer": "bfloat16"}}
    optimizer = LowPrecision(inner, groups={1: named})
    p.grad = q.grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"`state` must name states of the optimizer \(none\), got \['mom"):
        optimizer.step()


def one(groups, **options):
    return LowPrecision(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), groups=groups, **options)


@pytest.mark.parametrize(
    ("groups", "kind", "message"),
    [
        ([{"weight": "e4m3fn"}], TypeError, "`groups` must map numbers of groups to casts, got .*list"),
        ({1: {}}, ValueError, r"`groups` must have keys from 0 to 0, got \[1\]"),
        ({"0": {}}, ValueError, r"`groups` must have keys from 0 to 0, got \['0'\]"),
        ({0: {"weights": "e4m3fn"}}, ValueError,
         "`groups.0` must map some of weight, gradient, state, master to casts, got \\['weights'\\]"),
        ({0: "e4m3fn"}, TypeError, "`groups.0` must map some of weight, .*, got 'e4m3fn'"),
        ({0: {"weight": "e4m3"}}, ValueError, "`format` must say which e4m3"),
        ({0: {"state": {"": "e4m3fn"}}}, ValueError, r"`groups.0.state` must map names of states to casts"),
        ({0: {"gradient": Cast("e5m2", clip_gradient=True)}}, ValueError,
         "`groups.0.gradient` must not clip gradients"),
    ],
)  # fmt: skip
def test_what_cannot_be_honored_is_an_error(groups, kind, message):
    with pytest.raises(kind, match=message):
        one(groups)


def test_a_later_group_whose_casts_are_wrong_is_not_added():
    optimizer = one({}, weight="bfloat16")
    group = {"params": [nn.Parameter(torch.ones(2, dtype=torch.bfloat16))]}
    with pytest.raises(ValueError, match="`casts` must map some of weight, gradient, state, master"):
        optimizer.add_param_group(group, casts={"wait": None})
    with pytest.raises(TypeError, match=r"`casts` must map some of weight, .* got 'bfloat16'"):
        optimizer.add_param_group(group, casts="bfloat16")
    with pytest.raises(ValueError, match="`format` must be exact in the carrier bfloat16"):
        optimizer.add_param_group(group, casts={"weight": "binary16"})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 2


def test_noise_in_a_group_alone_draws_a_seed():
    torch.manual_seed(0)
    quiet = one({0: {"weight": "bfloat16"}})
    assert quiet.state_dict()["lowprec"]["seed"].tolist() == [0]
    loud = one({0: {"weight": Cast("bfloat16", "stochastic")}})
    assert loud.state_dict()["lowprec"]["seed"].tolist() != [0]
    state = torch.get_rng_state()
    later = [nn.Parameter(torch.ones(2))]
    quiet.add_param_group({"params": later}, casts={"weight": Cast("bfloat16", "stochastic")})
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    assert quiet.state_dict()["lowprec"]["seed"].tolist() == [0]
