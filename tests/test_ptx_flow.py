"""What the tests look for in PTX is found where it is planted."""

import pytest
from ptx import faults, of_loop_over_elements
from ptx_flow import blocks_of, depths

KERNEL = """
.version 9.5
.visible .entry kernel(
\t.param .u64 kernel_param_0
)
{{
\t.reg .b64 \t%rd<9>;
\tld.param.u64 \t%rd1, [kernel_param_0];
$L_runs:
\tdiv.s64 \t%rd2, %rd1, %rd3; // where a run begins
$L_elements:
\tld.global.u32 \t%r1, [%rd2];
\t{inside}
\tst.global.u32 \t[%rd2], %r1;
\tsetp.lt.s64 \t%p1, %rd2, %rd4;
\t@%p1 bra \t$L_elements;
{after}
\tsetp.lt.s64 \t%p2, %rd2, %rd5;
\t@!%p2 bra \t$L_end;
\tbra.uni \t$L_runs;
$L_end:
\tret;
}}
"""


def kernel(inside: str = "", after: str = "") -> str:
    """Two loops, one in the other, with something in the inner one and after it."""
    return KERNEL.format(inside=inside, after=after)


def test_loops_are_nested_as_they_are_written() -> None:
    (blocks,) = blocks_of(kernel())
    found = {one.opcode: deep for block, deep in zip(blocks, depths(blocks), strict=True)
             for one in block.instructions}  # fmt: skip
    expected = {"ld.param.u64": 0, "div.s64": 1, "ld.global.u32": 2, "bra.uni": 1, "ret": 0}
    assert found == found | expected
    assert [one.opcode for one in of_loop_over_elements(kernel())] == [
        "ld.global.u32", "st.global.u32", "setp.lt.s64", "bra",
    ]  # fmt: skip


BRANCHES = "setp.eq.s32 %p3, %r1, 0;\n\t@%p3 bra $L_far;\n\tdiv.u64 %rd6, %rd2, %rd3;\n$L_far:"
TABLE = (
    "$L_brx: .branchtargets $L_a, $L_b;\n\tbrx.idx %r1, $L_brx;\n$L_a:\n\trem.s64 %rd6, %rd2, %rd3;\n$L_b:"
)
PATTERN = "mul.f32 %f1, %f2, %f3;\n\tmov.b32 %r1, %f1;\n\tmov.b32 %f6, %r1;\n\tadd.f32 %f4, %f5, %f6;"
WITHIN = "$L_deep:\n\tdiv.s64 %rd6, %rd2, %rd3;\n\t@%p4 bra $L_deep;"


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("div.s64 %rd6, %rd2, %rd3;", "divides 64 bits"),
        ("rem.u64 %rd6, %rd2, %rd3;", "divides 64 bits"),
        (BRANCHES, "divides 64 bits"),
        (TABLE, "divides 64 bits"),
        (WITHIN, "divides 64 bits"),
        ("div.u32 %r2, %r1, %r3;", None),
        ("fma.rn.f32 %f1, %f2, %f3, %f4;", "fuses"),
        ("mad.rn.f32 %f1, %f2, %f3, %f4;", "fuses"),
        ("mad.lo.s32 %r2, %r3, %r4, %r5;", None),
        ("add.f64 %fd1, %fd2, %fd3;", "is binary64"),
        ("cvt.f64.f32 %fd1, %f1;", "is binary64"),
        ("add.ftz.f32 %f1, %f2, %f3;", "not IEEE 754"),
        ("div.full.f32 %f1, %f2, %f3;", "not IEEE 754"),
        ("sqrt.approx.f32 %f1, %f2;", "not IEEE 754"),
        ("mul.f32 %f1, %f2, %f3;\n\tadd.f32 %f4, %f1, %f5;", "contracts"),
        ("add.f32 %f4, %f5, %f1;\n\tmul.f32 %f1, %f2, %f3;", "contracts"),  # of the turn before
        ("mul.f32 %f1, %f2, %f3;\n\tneg.f32 %f6, %f1;\n\tsub.f32 %f4, %f5, %f6;", "contracts"),
        (PATTERN, "contracts"),
        ("mul.rn.f32 %f1, %f2, %f3;\n\tadd.f32 %f4, %f1, %f5;", None),
        ("mul.f32 %f1, %f2, %f3;\n\tadd.rn.f32 %f4, %f1, %f5;", None),
        ("mul.f32 %f1, %f2, %f3;\n\tadd.f32 %f4, %f2, %f3;", None),
        ("mov.b64 {%r2, %r3}, %rd2;\n\tld.global.v2.u32 {%r4, %r5}, [%rd2];", None),
    ],
)  # fmt: skip
def test_what_is_planted_in_the_loop_over_elements_is_found(inside: str, fault: str | None) -> None:
    found = faults(kernel(inside))
    assert (found == []) if fault is None else len(found) == 1 and found[0].startswith(fault)


def test_a_division_beside_that_loop_is_found_where_it_is_the_outermost() -> None:
    after = "\tdiv.s64 %rd6, %rd2, %rd3;"
    assert faults(kernel(after=after)) == []
    assert len(faults(kernel(after=after), depth=1)) == 2


def test_a_loop_that_only_finds_a_place_may_divide() -> None:
    after = "$L_place:\n\trem.s64 %rd6, %rd2, %rd3;\n\t@%p4 bra $L_place;"
    assert faults(kernel(after=after)) == []


def test_what_was_asked_for_is_no_fault() -> None:
    inside = "fma.rn.f64 %fd1, %fd2, %fd3, %fd4;"
    assert faults(kernel(inside), doubles=True, fused=True) == []
    assert [one.split(":")[0] for one in faults(kernel(inside), doubles=True)] == ["fuses"]
    assert [one.split(":")[0] for one in faults(kernel(inside), fused=True)] == ["is binary64"]


def test_exact_products_may_be_taken_in() -> None:
    assert faults(kernel("mul.f32 %f1, %f2, %f3;\n\tadd.f32 %f4, %f1, %f5;"), exact=True) == []
