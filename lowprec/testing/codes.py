"""Codes: every one decodes to its value, every value encodes as its code."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lowprec import ops, reference
from lowprec.formats import Scaled
from lowprec.modes import Rounding
from lowprec.ops.coding import code_dtype
from lowprec.testing.decide import Noise, decided
from lowprec.testing.definition import Definition, Uniform, key
from lowprec.testing.failure import Check
from lowprec.testing.hard import Floats
from lowprec.testing.listed import Posits
from lowprec.testing.scales import groups_of, shared
from lowprec.testing.subjects import Subject, array_of, tensor_of

Codes = npt.NDArray[Any]


class Coder(NamedTuple):
    """What encodes and decodes: the kernels or the reference."""

    format: Any
    subject: Subject

    def encode(self, x: Floats) -> list[int]:
        """Codes of numbers."""
        if self.subject.name == "kernels":
            codes: Any = ops.encode(tensor_of(x, self.subject.carrier), self.format).numpy()
        else:
            codes = reference.encode(x, self.format, carrier=self.subject.carrier)
        return codes.tolist()

    def encode_groups(self, x: Floats) -> tuple[Codes, Any]:
        """Codes of numbers, and the scales as they are given to decode."""
        if self.subject.name == "kernels":
            codes, scales = ops.encode(tensor_of(x, self.subject.carrier), self.format)
            return codes.numpy(), scales
        found: Any = reference.encode(x, self.format, carrier=self.subject.carrier)
        return found

    def decode_groups(self, codes: Codes, scales: Any) -> Floats:
        """Values of codes over scales."""
        carrier = self.subject.carrier
        if self.subject.name == "kernels":
            dtype = getattr(torch, carrier) if isinstance(self.format, Scaled) else None
            return array_of(ops.decode(torch.from_numpy(codes), self.format, scales=scales, dtype=dtype))
        wide = np.float32 if carrier == "bfloat16" else np.dtype(carrier)
        return reference.decode(codes, self.format, dtype=wide, scales=scales, carrier=carrier)

    def decode(self, codes: list[int]) -> Floats:
        """Values of codes."""
        dtype = code_dtype(self.format)
        array = np.array(codes, str(dtype).removeprefix("torch."))
        carrier = self.subject.carrier
        if self.subject.name == "kernels":
            return array_of(ops.decode(torch.from_numpy(array), self.format, dtype=getattr(torch, carrier)))
        wide = np.float32 if carrier == "bfloat16" else np.dtype(carrier)
        return reference.decode(array, self.format, dtype=wide, carrier=carrier)


def check_codes(check: Check, subject: Subject, format: Any, definition: Definition, x: Floats) -> None:
    """Every code, or of wide formats some; then the codes of what hard inputs become."""
    check = check.at(f"{subject.name} in {subject.carrier}")
    coder = Coder(format, subject)
    codes = list(definition.some_codes(1 << 16 if subject.name == "kernels" else 1 << 12))
    values = [definition.value_of(code) for code in codes]
    with check.running("codes decode", input=f"{len(codes)} codes"):
        decoded = coder.decode(codes).tolist()
    for code, got, want in zip(codes, decoded, values, strict=True):
        check.equal("codes decode", got, want, input=f"code {code} ({code:#0{_digits(definition)}b})")
    kept = [(code, value) for code, value in zip(codes, values, strict=True) if _is_coded(value, definition)]
    known = definition.canonical
    with check.running("codes round-trip", input=f"{len(kept)} values"):
        again = coder.encode(_array([value for _, value in kept], subject.carrier))
    for (code, value), got in zip(kept, again, strict=True):
        want = known.get(key(value), code)
        check.equal("codes round-trip", got, want, input=value)
    _check_encoded(check, coder, definition, x)


def check_group_codes(check: Check, subject: Subject, format: Any, x: Floats) -> None:
    """The codes of a tensor over the scales of its groups are those of the quotients; decode undoes them."""
    check = check.at(f"{subject.name} in {subject.carrier}")
    parts = shared(x, format, subject.carrier)
    groups = groups_of(x.shape, format.granularity).ravel().tolist()
    if not _has_nan(parts[0].definition):
        x = np.where(np.isnan(x), 0, x).astype(x.dtype)
    coder = Coder(format, subject)
    with check.running("codes of groups", input=f"a tensor of shape {x.shape}"):
        codes, scales = coder.encode_groups(x)
        decoded = coder.decode_groups(codes, scales)
    rows = zip(x.ravel().tolist(), codes.ravel().tolist(), groups, strict=True)
    for number, got, group in rows:
        definition, scale = parts[group]
        quotient = decided(number, definition, Rounding.NEAREST_EVEN, scale=scale).value
        lines = {"group": group, "scale": float(scale), "quotient": quotient}
        check.equal("codes of groups", got, definition.code_of(quotient), input=number, **lines)
    values = subject.run(x, Rounding.NEAREST_EVEN, Noise())
    triples = zip(x.ravel().tolist(), decoded.ravel().tolist(), values.ravel().tolist(), strict=True)
    for number, got, want in triples:
        check.equal("decode(encode(x)) is quantize(x)", got, want, input=number)


def _check_encoded(check: Check, coder: Coder, definition: Definition, x: Floats) -> None:
    """decode(encode(x)) is what x becomes; a NaN without a code is refused."""
    values = coder.subject.run(x, Rounding.NEAREST_EVEN, Noise())
    if not _has_nan(definition):
        nan = _array([math.nan], coder.subject.carrier)
        check.raises("NaN without a code is refused", lambda: coder.encode(nan), input=math.nan)
        x, values = x[~np.isnan(values)], values[~np.isnan(values)]
    decoded = coder.decode(coder.encode(x))
    for number, got, want in zip(x.tolist(), decoded.tolist(), values.tolist(), strict=True):
        check.equal("decode(encode(x)) is quantize(x)", got, want, input=number)


def _is_coded(value: float, definition: Definition) -> bool:
    """Whether a code's value is one that encode gives a code for."""
    if not math.isfinite(value):
        return math.isnan(value) or math.isinf(definition.of_infinity(negative=value < 0))
    low, high = definition.ends or (Fraction(0), Fraction(0))
    return low <= Fraction(value) <= high  # a symmetric format leaves out a code


def _array(values: list[float], carrier: str) -> Floats:
    """Values as numbers of a carrier."""
    return np.array(values, np.float32 if carrier == "bfloat16" else carrier)


def _digits(definition: Definition) -> int:
    """The width of a code in binary, its prefix included."""
    return definition.bits + 2


def _has_nan(definition: Definition) -> bool:
    """Whether a code is NaN."""
    if isinstance(definition, Uniform | Posits):
        return isinstance(definition, Posits)
    nan = definition.canonical.get("nan")
    return nan is not None and math.isnan(definition.value_of(nan))
