"""Names, signatures and defaults are those of QPyTorch 0.3.0."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from compat.peer import HERE, packages

import lowprec
import lowprec.compat.qtorch as ours

SIGNATURES = {
    "FixedPoint": "(wl, fl, clamp=True, symmetric=False)",
    "FloatingPoint": "(exp, man)",
    "BlockFloatingPoint": "(wl, dim=-1)",
    "quant.fixed_point_quantize": "(x, wl, fl, clamp=True, symmetric=False, rounding='stochastic')",
    "quant.block_quantize": "(x, wl, dim=-1, rounding='stochastic')",
    "quant.float_quantize": "(x, exp, man, rounding='stochastic')",
    "quant.quantizer": "(forward_number=None, backward_number=None, forward_rounding='stochastic', "
    "backward_rounding='stochastic', clamping_grad_zero=False, backward_hooks=[])",
    "quant.Quantizer": "(forward_number=None, backward_number=None, forward_rounding='stochastic', "
    "backward_rounding='stochastic')",
    "quant.Quantizer.forward": "(self, x)",
    "optim.OptimLP": "(optim, weight_quant=None, grad_scaling=1.0, grad_quant=None, momentum_quant=None, "
    "acc_quant=None)",
    "optim.OptimLP.step": "(self, closure=None)",
    "auto_low.lower": "(model, layer_types=[], forward_number=None, backward_number=None, "
    "forward_rounding='stochastic', backward_rounding='stochastic')",
    "auto_low.sequential_lower": "(model, layer_types=[], forward_number=None, backward_number=None, "
    "forward_rounding='stochastic', backward_rounding='stochastic')",
}


def named(package, name):
    """What a dotted name is in a package."""
    for part in name.split("."):
        package = getattr(package, part)
    return package


def unannotated(function):
    """A signature as text, without the annotations that QPyTorch has not."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("package", packages())
@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signature_is(name, package):
    assert unannotated(named(package(), name)) == SIGNATURES[name]


@pytest.mark.parametrize("package", packages())
def test_every_public_name_has_its_signature_here(package):
    public = {
        f"{part}.{name}".lstrip(".")
        for part in ("", "quant", "optim", "auto_low")
        for name in (named(package(), part) if part else package()).__all__
    }
    assert public == {name for name in SIGNATURES if not name.endswith((".forward", ".step"))}
    assert issubclass(package().FixedPoint, package().number.Number)
    assert package().Number is package().number.Number


def test_every_module_can_be_imported_by_its_name():
    modules = [info.name for info in pkgutil.walk_packages(ours.__path__, f"{HERE}.")]
    assert {f"{HERE}.{part}" for part in ("number", "quant", "optim", "auto_low")} <= set(modules)
    for module in modules:
        assert importlib.import_module(module).__doc__


def test_a_default_list_is_nobodys_to_change():
    before = {name: str(inspect.signature(named(ours, name))) for name in SIGNATURES}
    ours.quant.quantizer(backward_hooks=[abs])
    assert {name: str(inspect.signature(named(ours, name))) for name in SIGNATURES} == before


def test_importing_lowprec_does_not_import_it():
    code = "import sys, lowprec; print('lowprec.compat' in sys.modules)"
    folder = str(Path(lowprec.__file__).parents[1])
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.strip() == "False"
