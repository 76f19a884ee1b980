"""``lowprec bench``: what it measures, refuses and writes. No test looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lowprec
from lowprec.app import checkpoint
from lowprec.app.bench import (
    child,
    kernels,
    on_device,
    optimizers,
    packing,
    peers,
    processes,
    products,
    report,
    step,
)
from lowprec.app.bench.figure import Limit, Probe, Unavailable
from lowprec.app.bench.measure import FULL, QUICK
from lowprec.formats import parse
from lowprec.modes import Rounding

MODULES = (kernels, packing, products, step, optimizers, processes, peers)


@pytest.fixture
def probes(monkeypatch):
    """Puts other probes in the place of the real ones."""

    def put(*fakes: Probe) -> None:
        for module in MODULES:
            monkeypatch.setattr(module, "probes", lambda effort: iter(()))
        monkeypatch.setattr(processes, "probes", lambda effort: iter(fakes))

    return put


def fake(value: float, limit: Limit | None = None) -> Probe:
    """A probe that gives a value."""
    return Probe(processes.IMPORT, "import lowprec", "after import torch", "s", lambda: value, limit)


def test_quick_tries_every_kind_of_measurement(lowprec_command, monkeypatch):
    asked = []

    def run_child(*arguments, **environment):
        asked.append(arguments[0])
        return 0.25

    monkeypatch.setattr(processes, "run_child", run_child)
    result = lowprec_command("bench", "--quick", "--json", "bench.json")
    assert result.exit_code == 0, result.output
    assert set(asked) == {"import", "call", "memory"} or sys.platform == "win32"
    found = json.loads(Path("bench.json").read_text(encoding="utf-8"))
    assert {figure["section"] for figure in found["figures"]} == {
        "kernels", "64 elements", "packing", "matrix products", "training step", "record", "optimizer step",
        "import", "first call", "memory", "peers", "peers, scaled formats",
    }  # fmt: skip
    measured = [figure for figure in found["figures"] if "absent" not in figure]
    assert [figure for figure in measured if "failure" in figure] == []
    assert all(figure["value"] > 0 for figure in measured)
    assert {figure["row"] for figure in measured} >= {"lowprec", "lowprec, out=", "ml_dtypes", "gfloat"}
    assert found["environment"]["torch"] == torch.__version__
    assert str(Path.home()) not in json.dumps(found)
    for text in ("kernels", "64 elements", "out=", "e4m3fn", "By hand", "cpfloat 0.15"):
        assert text in result.stdout
    assert "kernels: step 0 of" in result.stderr
    assert "kernels: step" not in result.stdout


def test_quick_has_no_limits_and_is_refused_with_check(lowprec_command, probes):
    probes(fake(9.0, Limit(0.6, at_least=False)))
    assert "0.6" not in lowprec_command("bench", "--quick").stdout
    result = lowprec_command("bench", "--quick", "--check")
    assert result.exit_code == 2
    assert "Error: `--quick` must be left out with --check, got True." in result.stderr


def test_check_fails_where_a_limit_is_missed_and_names_it(lowprec_command, probes):
    probes(fake(0.75, Limit(0.6, at_least=False)))
    result = lowprec_command("bench", "--check")
    assert result.exit_code == 1
    assert "Missed or failed: 1 of 1 figures." in result.stdout
    assert "import: import lowprec, after import torch: 0.75 s, must be ≤ 0.6" in result.stdout
    assert "missed, round 3 of 3" in result.stderr
    assert lowprec_command("bench").exit_code == 0


def test_check_passes_where_limits_are_kept(lowprec_command, probes):
    probes(fake(0.5, Limit(0.6, at_least=False)), fake(9.0))
    result = lowprec_command("bench", "--check")
    assert result.exit_code == 0
    assert "All 1 limits are kept." in result.stdout


def test_a_failing_measurement_fails_the_check_and_is_told(lowprec_command, probes):
    def broken() -> float:
        raise ZeroDivisionError("planted")

    probes(Probe("memory", "e4m3fn", "", "clone", broken), fake(0.5))
    result = lowprec_command("bench", "--check")
    assert result.exit_code == 1
    assert "memory: e4m3fn: ZeroDivisionError: planted" in result.stdout
    assert "failed: ZeroDivisionError: planted" in lowprec_command("bench").stdout


def test_what_this_machine_cannot_measure_is_told_and_no_failure(lowprec_command, probes):
    def absent() -> float:
        raise Unavailable("not measured on Windows")

    probes(Probe("memory", "e4m3fn", "", "clone", absent, Limit(1, at_least=False)))
    result = lowprec_command("bench", "--check")
    assert result.exit_code == 0
    assert "e4m3fn: not measured on Windows" in result.stdout


def test_ctrl_c_leaves_without_a_traceback_or_a_file(lowprec_command, probes):
    def interrupted() -> float:
        raise KeyboardInterrupt

    probes(Probe("memory", "e4m3fn", "", "clone", interrupted))
    result = lowprec_command("bench", "--json", "bench.json")
    assert result.exit_code == 130
    assert "Stopped. Nothing was written." in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "`--json` must be a file, got 'folder'."),
        ("missing/bench.json", "`--json` must be a file that can be written ("),
    ],
)
def test_a_file_that_cannot_be_written_is_found_before_measuring(lowprec_command, probes, path, message):
    Path("folder").mkdir()
    probes(Probe("memory", "e4m3fn", "", "clone", lambda: pytest.fail("measured")))
    result = lowprec_command("bench", "--json", path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_full_disk_comes_after_the_tables(lowprec_command, probes, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write", full)
    probes(fake(0.25))
    result = lowprec_command("bench", "--json", "bench.json")
    assert result.exit_code == 1
    assert "import lowprec" in result.stdout
    assert "No space left on device" in result.stderr


def test_every_mode_of_every_family_is_measured():
    rows = list(kernels.rows(complete=True))
    assert len(rows) == len(set(rows))
    for family in kernels.FAMILIES:
        assert {mode for format, mode, carrier in rows if (format, carrier) == (family, "float32")} == set(
            Rounding
        )
    assert {carrier for _, _, carrier in rows} == {"float32", "bfloat16", "float16", "float64"}
    assert all(str(parse(format)) == format for format, _, _ in rows)


def test_every_probe_of_a_complete_run_has_a_place_of_its_own():
    for effort in (FULL, QUICK):
        all_probes = [probe for module in MODULES for probe in module.probes(effort)]
        places = [(probe.section, probe.row, probe.column) for probe in all_probes]
        assert len(places) == len(set(places))


def test_a_child_that_fails_tells_its_last_line():
    message = r"`lowprec bench` must run interpreters of its own\. One ended with ValueError"
    with pytest.raises(RuntimeError, match=message):
        processes.run_child("call", "fp9", "nearest_even")


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is not measured on Windows")
def test_memory_besides_the_output_is_seen():
    wasteful = """
import torch, lowprec, child
quantize = lowprec.quantize
lowprec.quantize = lambda x, *args, **options: (torch.ones_like(x), quantize(x, *args, **options))[1]
print(child.memory_of_a_call("e4m3fn", "nearest_even", "float32", "1448"))
"""
    path = [str(Path(child.__file__).parent), str(Path(lowprec.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-P", "-c", wasteful],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) > 1.8


def test_the_training_step_rounds_all_that_it_keeps():
    model = step.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheme = step.scheme()
    assert {scheme.input, scheme.error, scheme.gradient, scheme.state, scheme.master} == {
        scheme.stored_weight
    }
    model, optimizer = lowprec.prepare(model, optimizer, scheme, seed=0)
    model(torch.ones(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    kept = [*model.parameters(), *optimizer.master_weights.values()]
    kept += [state["momentum_buffer"] for state in optimizer.state.values()]
    assert len(kept) == 3 * len(list(model.parameters()))
    with torch.no_grad():
        assert all(torch.equal(lowprec.quantize(x, "e5m2"), x) for x in kept)


def test_both_training_steps_begin_with_the_same_network():
    low, plain = (step.stepping(2, low=low) for low in (True, False))
    assert float(low()) == pytest.approx(float(plain()), rel=0.2)  # the same weights, rounded coarsely


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "cpu:0", "gpu"])
def test_another_kind_of_device_is_refused(lowprec_command, device):
    result = lowprec_command("bench", "--device", device)
    assert result.exit_code == 2
    assert f"Error: `--device` must be cpu, cuda or cuda:N, got '{device}'." in result.stderr


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:2", 2)])
def test_a_device_that_is_not_there_is_told(lowprec_command, monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    result = lowprec_command("bench", "--device", device)
    assert result.exit_code == 2
    message = f"`--device` must be a device that torch finds, got '{device}'. Of these there are {count};"
    assert message in result.stderr.replace("\n", " ")


def test_kernels_that_are_not_installed_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setitem(sys.modules, "lowprec.kernels.cuda", None)
    with pytest.raises(ValueError, match="`--device` must be one for which the kernels are installed, got"):
        on_device.parsed("cuda")


def test_no_figure_of_a_device_has_a_limit(lowprec_command, monkeypatch):
    monkeypatch.setattr(on_device, "parsed", lambda device: torch.device("meta"))
    result = lowprec_command("bench", "--check", "--device", "cuda")
    assert result.exit_code == 2
    assert "Error: `--device` must be cpu with --check, got 'cuda'." in result.stderr


def test_every_kernel_of_a_device_is_measured():
    probes = list(on_device.probes(FULL, torch.device("cuda")))
    assert len({(p.section, p.row, p.column) for p in probes}) == len(probes)
    rows = {probe.row for probe in probes if probe.section == on_device.KERNELS}
    expected = {row for row in kernels.rows(complete=True) if row[1] in on_device._MODES}
    assert rows == {" ".join(row) for row in expected}
    assert {row[0] for row in expected} == {row[0] for row in kernels.rows(complete=True)}
    assert {probe.row for probe in probes if probe.section == on_device.PRODUCTS} == {
        case.row for case in products.CASES
    }
    assert all(probe.section in report.CAPTIONS for probe in probes)
    figures = [probe.take() for probe in on_device.probes(QUICK, torch.device("cpu"))]
    assert [figure for figure in figures if not figure.value] == []
