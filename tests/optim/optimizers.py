"""The optimizers that are wrapped in tests, and the states of each."""

import torch
from torch import optim


class Lion(optim.Optimizer):
    """The sign of an average of gradients: an optimizer that torch does not have."""

    def __init__(self, params, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, foreach=None):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "foreach": foreach})

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["steps"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                state["steps"] += 1
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (beta1 * state["exp_avg"] + (1 - beta1) * p.grad).sign())
                state["exp_avg"].mul_(beta2).add_(p.grad, alpha=1 - beta2)


OPTIMIZERS = {
    "sgd": lambda p, **k: optim.SGD(p, lr=0.1, **k),
    "momentum": lambda p, **k: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, **k),
    "nesterov": lambda p, **k: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01, **k),
    "maximize": lambda p, **k: optim.SGD(p, lr=0.1, momentum=0.5, maximize=True, **k),
    "adam": lambda p, **k: optim.Adam(p, lr=0.01, weight_decay=0.01, **k),
    "amsgrad": lambda p, **k: optim.Adam(p, lr=0.01, amsgrad=True, **k),
    "adamw": lambda p, **k: optim.AdamW(p, lr=0.01, weight_decay=0.1, **k),
    "nadam": lambda p, **k: optim.NAdam(p, lr=0.01, **k),
    "radam": lambda p, **k: optim.RAdam(p, lr=0.01, **k),
    "rmsprop": lambda p, **k: optim.RMSprop(p, lr=0.01, **k),
    "centered": lambda p, **k: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.9, eps=0.25, **k),
    "adagrad": lambda p, **k: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1, **k),
    "adadelta": lambda p, **k: optim.Adadelta(p, lr=1.0, eps=1e-4, **k),
    "adamax": lambda p, **k: optim.Adamax(p, lr=0.01, **k),
    "asgd": lambda p, **k: optim.ASGD(p, lr=0.1, t0=3, **k),
    "rprop": lambda p, **k: optim.Rprop(p, lr=0.02, **k),
    "lion": lambda p, **k: Lion(p, lr=0.01, weight_decay=0.1, **k),
}
"""Each a function of parameters."""

ROUNDED = {
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "maximize": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "amsgrad": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "nadam": ("exp_avg", "exp_avg_sq"),
    "radam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg",),
    "centered": ("grad_avg", "momentum_buffer", "square_avg"),
    "adagrad": ("sum",),
    "adadelta": ("acc_delta", "square_avg"),
    "adamax": ("exp_avg", "exp_inf"),
    "asgd": ("ax",),
    "rprop": ("prev", "step_size"),
    "lion": ("exp_avg",),
}
"""The states that have the shape of their parameter."""

FUSED = ("momentum", "nesterov", "maximize", "adam", "amsgrad", "adamw", "adagrad")
"""Those that torch has a fused CPU kernel for."""
