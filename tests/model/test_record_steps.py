"""record step by step: sampling, bounded memory, files, tables, heat maps, and where a run broke."""

import copy
import json
import math
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from torch import nn

import lowprec
from lowprec import Cast, Counters, Scheme
from lowprec.ops.observation import observers
from lowprec.optim import LowPrecision, one_pass
from lowprec.record import Break, Moments, Recording

matplotlib.use("Agg")
INPUT = Scheme(input=Cast("e4m3fn"))


def chain(depth=2, scheme=INPUT, size=2):
    """Linear layers with unit matrices, so that what goes in goes through."""
    model = nn.Sequential(*(nn.Linear(size, size, bias=False) for _ in range(depth)))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.eye(size))
    return lowprec.convert(model, scheme)


def recorded(sizes, depth=2, **options):
    """A chain, called once with each size."""
    model = chain(depth)
    with lowprec.record(model, **options) as recording:
        for size in sizes:
            model(torch.full((1, 2), float(size)))
    return recording


def trained(steps, **options):
    """A chain trained for some steps by an optimizer."""
    model = chain()
    optimizer = LowPrecision(torch.optim.SGD(model.parameters(), lr=0.1), weight="e4m3fn", gradient="e5m2")
    paths = []
    with lowprec.record(model, optimizer, **options) as recording:
        for _ in range(steps):
            optimizer.zero_grad()
            for _ in range(2):  # two calls of the model make one step
                model(torch.ones(1, 2)).sum().backward()
            paths.append(one_pass.is_possible(optimizer.optimizer))
            optimizer.step()
    return recording, paths


def test_a_step_is_a_call_of_the_model():
    recording = recorded([1, 500, 1, 1])
    assert recording.steps == ((0, 0), (1, 1), (2, 2), (3, 3))
    grid = recording.grid("saturation")
    assert grid.layers == ("0", "1")
    assert grid.values.tolist() == [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]  # 448 comes out of the first


def test_a_step_is_one_of_the_optimizer():
    recording, _ = trained(3)
    assert recording.steps == ((0, 0), (1, 1), (2, 2))
    assert recording.counters["0", "input"] == Counters(3 * 2 * 2)
    assert recording.counters["0.weight", "stored_weight"] == Counters(3 * 4)
    assert list(recording.grid("sqnr").layers) == ["0", "0.weight", "1", "1.weight"]


def test_steps_that_are_not_recorded_are_made_in_one_pass_and_seen_by_nobody():
    recording, paths = trained(7, every=3)
    assert recording.steps == ((0, 0), (3, 3), (6, 6))
    assert paths == [step % 3 != 0 for step in range(7)]
    assert observers == []
    assert recorded([1] * 5, every=2).steps == ((0, 0), (2, 2), (4, 4))


def test_recording_changes_no_result():
    results = []
    for every in (None, 1, 2):
        model = chain(scheme=Scheme(input=Cast("e5m2", "stochastic")))
        inner = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer = LowPrecision(inner, weight=Cast("e5m2", "stochastic"), seed=3)
        torch.manual_seed(0)
        with lowprec.record(model, optimizer, every=every) if every else torch.enable_grad():
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
        results.append([p.detach().clone() for p in model.parameters()])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_a_checkpoint_within_a_backward_begins_no_step():
    model = chain()
    x = torch.ones(1, 2, requires_grad=True)
    with lowprec.record(model) as recording:
        torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).sum().backward()
    assert recording.steps == ((0, 0),)
    assert recording.counters["0", "input"] == Counters(4)  # what is computed again is counted again


def test_hooks_are_gone_after_the_block_and_after_an_exception():
    model = chain()
    optimizer = LowPrecision(torch.optim.SGD(model.parameters(), lr=0.1), weight="e4m3fn")
    before = list(model._forward_pre_hooks)
    for arguments in ((model,), (model, optimizer)):
        with pytest.raises(ZeroDivisionError), lowprec.record(*arguments, every=2):
            _ = 1 / 0
    assert observers == []
    assert list(model._forward_pre_hooks) == before
    assert not optimizer._optimizer_step_post_hooks


def test_nested_records_have_steps_of_their_own():
    model = chain()
    with lowprec.record(model, every=2) as outer:
        model(torch.ones(1, 2))
        with lowprec.record(model) as inner, lowprec.record(copy.deepcopy(model)) as other:
            model(torch.ones(1, 2))
            model(torch.ones(1, 2))
    assert outer.steps == ((0, 0), (2, 2))
    assert inner.steps == ((0, 0), (1, 1))
    assert other.steps == ()


def test_memory_is_bounded_and_counts_survive_it():
    moments = Moments()
    for step in range(0, 3000, 3):
        moments.begin(step)
        moments.add(("layer", "input"), np.arange(14.0))
    assert len(moments) <= 256
    kept = list(moments)
    assert (kept[0].first_step, kept[0].last_step, kept[0].steps) == (0, 9, 4)
    assert (kept[-1].first_step, kept[-1].last_step) == (2988, 2997)
    assert all(a.last_step + 3 == b.first_step for a, b in pairwise(kept))
    assert sum(m.numbers["layer", "input"][1] for m in kept) == 1000
    again = Moments.from_plain(json.loads(json.dumps(moments.to_plain())))
    for both in (moments, again):
        both.begin(3000)
        both.add(("layer", "input"), np.arange(14.0))
    assert again.to_plain() == moments.to_plain()


def test_moments_of_one_step_are_taken_over():
    moments, others = Moments(), recorded([500, 1]).moments
    moments.take(7, others)
    moments.take(9, Moments())
    (kept,) = moments
    assert (kept.first_step, kept.last_step) == (7, 7)
    assert kept.counters()["0", "input"] == Counters(4, 2)


def test_what_holds_no_moments_is_refused():
    with pytest.raises(KeyError, match="rows"):
        Moments.from_plain([{}])
    with pytest.raises(ValueError, match=r"`rows` must have 14 numbers for each layer and role, got \[1"):
        Moments.from_plain([{"first_step": 0, "last_step": 0, "steps": 1, "rows": [["a", "b", 1]]}])


def test_a_planted_break_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    lowprec.convert(model, Scheme(input=Cast("e5m2"), output=Cast("e5m2")))
    with lowprec.record(model) as recording:
        for step in range(6):
            with torch.no_grad():
                model[1].weight.fill_(1e5 if step >= 4 else 1.0)
            model(torch.ones(1, 2))
    found = recording.first_break()
    assert found == Break(4, 4, "1", "output", "infinity")
    assert str(found) == "step 4: infinity in the output of 1"
    grid = recording.grid("infinite")
    assert np.argwhere(grid.broken).tolist() == [[1, 4], [1, 5], [2, 4], [2, 5]]
    lines = recording.heat_text("infinite").splitlines()
    assert lines[2] == "1     ××"
    assert "\n2     ××\n" in recording.heat_text("sqnr")


def test_an_infinity_that_a_format_saturates_away_is_named():
    model = chain(scheme=Scheme(weight=Cast("bfp8")))
    with lowprec.record(model) as recording:
        for step in range(4):
            with torch.no_grad():
                model[0].weight[0, 0] = math.inf if step == 2 else 1.0
            assert model(torch.ones(1, 2)).isfinite().all()
    found = recording.first_break(saturation=1.0)
    assert found == Break(2, 2, "0", "weight", "infinity", is_given=True)
    assert str(found) == "step 2: infinity given to the weight of 0"
    assert Recording.from_json(recording.to_json()).first_break(saturation=1.0) == found
    assert np.argwhere(recording.grid().broken).tolist() == [[0, 2]]
    assert recording.table()["given infinite"] == (1 / 16, 0.0)
    rows = [row for row in recording.steps_table() if row["layer"] == "0"]
    assert [row["given_infinite"] for row in rows] == [0, 0, 1, 0]
    assert [row["infinite"] for row in rows] == [0, 0, 0, 0]
    assert recording.to_csv().splitlines()[0].endswith(",given_nan,given_infinite")
    nan = recorded([1, math.nan])
    assert nan.table()["given NaN"] == nan.table()["NaN"] == (0.5, 0.5)


def test_saturation_breaks_where_it_passes_the_threshold():
    recording = recorded([1, 1, 500, 1])
    assert recording.first_break() == Break(2, 2, "0", "input", "saturation", share=1.0)
    assert recording.first_break(saturation=1.0) is None
    broken = recorded([1, 500, math.nan])
    assert broken.first_break(saturation=1.0) == Break(2, 2, "0", "input", "NaN")
    assert broken.first_break() == Break(1, 1, "0", "input", "saturation", share=1.0)
    assert recorded([math.nan, 500]).first_break(saturation=0.0) == Break(0, 0, "0", "input", "NaN")
    part = Break(4, 7, "a", "error", "saturation", share=1 / 7)
    assert str(part) == "steps 4 to 7: saturation (14.3 %) in the error of a"
    model = chain(size=4)
    with lowprec.record(model) as quarter:
        model(torch.tensor([[1.0, 2.0, 3.0, 500.0]]))
    assert str(quarter.first_break()) == "step 0: saturation (25 %) in the input of 0"
    assert quarter.first_break(saturation=0.25) is None
    for wrong in ("much", True):
        with pytest.raises(TypeError, match="`saturation` must be a number"):
            recording.first_break(saturation=wrong)
    with pytest.raises(ValueError, match="`saturation` must lie between 0 and 1"):
        recording.first_break(saturation=10)


def test_files_hold_all_and_are_read_back(tmp_path):
    recording, _ = trained(3)
    text = recording.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == text
    header, first, *rest = text.splitlines()
    assert header.startswith(
        "first_step,last_step,layer,role,count,saturated,underflowed,nan,infinite,sqnr_db"
    )
    assert first.startswith("0,0,0,input,4,0,0,0,0,inf,0,0,,0,0")
    assert len(rest) == 3 * 6 - 1
    kept = recording.to_json(tmp_path / "a.json")
    again = Recording.from_json((tmp_path / "a.json").read_text())
    assert again.to_json() == kept
    assert again.to_csv() == text
    assert str(again.table()) == str(recording.table())
    assert again.counters["0", "input"].exponents == recording.counters["0", "input"].exponents
    assert Recording.from_json(recorded([math.nan]).to_json()).first_break().what == "NaN"
    assert Recording.from_json(tmp_path / "a.json").to_json() == kept
    (tmp_path / "b.json").write_bytes(b"\xff")
    for wrong in ("", "a.json", tmp_path / "b.json"):
        with pytest.raises(
            ValueError, match=r"`text` must be JSON that to_json has written, .*pathlib\.Path"
        ):
            Recording.from_json(wrong)
    with pytest.raises(FileNotFoundError):
        Recording.from_json(tmp_path / "c.json")
    with pytest.raises(TypeError, match=r"`text` must be a string of JSON or a pathlib\.Path, got"):
        Recording.from_json(b"{}")
    for wrong in ("[]", '{"lowprec recording": 0}', '{"lowprec recording": 1}'):
        with pytest.raises(ValueError, match="`text` must be what to_json of this version gave"):
            Recording.from_json(wrong)
    with pytest.raises(ValueError, match="`lowprec recording` must be 1, got 0"):
        Recording.from_json('{"lowprec recording": 0}')


def test_tables_say_what_became_of_layers():
    recording, _ = trained(2)
    table = recording.table()
    assert table["layer"] == ("0", "0.weight", "0.weight", "1", "1.weight", "1.weight")
    rows = {(row["layer"], row["role"]): row for row in table}
    assert rows["0", "input"]["SQNR"] == math.inf
    assert rows["0", "input"]["exponents"] == "0 … 0"
    assert rows["0", "input"]["update lost"] is None
    assert 0 <= rows["0.weight", "stored_weight"]["update lost"] <= 1
    assert recording._repr_html_() == table._repr_html_()
    assert repr(recording) == "<Recording of 6 casts in 2 moments>"
    assert "nothing was rounded" in str(Recording().table())


def test_exponents_of_a_role_and_a_layer():
    recording = recorded([1, 0, 5, math.inf])
    assert recording.exponents("input", "0").rows == ((0, 2, 0), (1, 0, 0), (2, 2, 0))
    assert recording.exponents("input", "0").caption == "Besides: 2 zeros, 2 infinite, 0 NaN."
    assert sum(recording.exponents()["elements"]) > 4
    with pytest.raises(ValueError, match="`role` must be None or one of input, got 'error'"):
        recording.exponents("error")
    with pytest.raises(ValueError, match="`layer` must be None or one of 0, 1, got '7'"):
        recording.exponents(layer="7")
    groups = chain(scheme=Scheme(input=Cast("mxfp4")))
    with lowprec.record(groups) as recording:
        groups(torch.full((1, 2), 4.0))
    assert recording.exponents(layer="0")["scales"] == (1, 0, 0)


@pytest.mark.parametrize("depth", [5, 60])
def test_a_heat_map_names_layers_and_steps(depth):
    recording = recorded([1, 500, math.nan], depth)
    ax = recording.heat_map()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [str(n) for n in range(depth)]
    first, second = ax.collections
    shown = first.get_array()
    assert shown.shape == (depth, 3)
    assert shown[0, 1] == 1.0
    assert shown.mask[:, 2].all()
    assert not shown.mask[:, :2].any()
    assert not second.get_array().mask[:, 2].any()
    assert ax.get_ylim() == (depth, 0)
    assert ax.get_xlabel() == "step"
    assert ax.get_title("left") == "saturated (lighter is worse)"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["× NaN or infinity"]
    assert len(ax.lines[0].get_xdata()) == depth
    pyplot.close("all")


def test_a_heat_map_on_axes_of_ones_own_and_of_every_quantity():
    recording, _ = trained(3)
    _, own = pyplot.subplots(figsize=(3, 1))
    assert recording.heat_map("sqnr", "input", own) is own
    for quantity in ("saturation", "underflow", "nan", "infinite", "sqnr", "stalled", "update_lost"):
        ax = recording.heat_map(quantity)
        ax.figure.canvas.draw()
        assert len(recording.heat_text(quantity).splitlines()) == 2 + 4
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["nothing to show"]
    pyplot.close("all")
    with pytest.raises(TypeError, match="`ax` must be Axes of Matplotlib or None"):
        recording.heat_map(ax=3)


def test_long_names_are_cut_and_many_steps_share_a_sign():
    recording = Recording(["a" * 40])
    for step in range(200):
        recording.begin(step)
        numbers = np.zeros(14)
        numbers[:2] = 100, step == 130
        recording.add(("a" * 40, "input"), numbers, {}, {})
    line = recording.heat_text().splitlines()[1]
    assert line == f"…{'a' * 31} {' ' * 32}█"
    ax = recording.heat_map()
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"…{'a' * 31}"]
    pyplot.close("all")


def test_what_cannot_be_shown_is_an_error():
    recording = recorded([1])
    with pytest.raises(ValueError, match="`quantity` must be one of saturation, underflow"):
        recording.heat_map("heat")
    with pytest.raises(ValueError, match="`role` must be None or one of input, got 'error'"):
        recording.heat_text(role="error")
    with pytest.raises(ValueError, match="`recording` must hold a step in which something was rounded"):
        recorded([]).heat_map()


def test_what_cannot_be_recorded_is_an_error():
    model = chain()
    for wrong in (1.0, True, "2"):
        with pytest.raises(TypeError, match="`every` must be an integer"), lowprec.record(model, every=wrong):
            pass
    with pytest.raises(ValueError, match="`every` must be at least 1"), lowprec.record(model, every=0):
        pass
    plain = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="`model` must have layers or Quantizers that round"):
        lowprec.record(plain).__enter__()
    with lowprec.record(nn.Sequential(lowprec.Quantizer("e4m3fn"))):
        pass
    assert observers == []


def test_record_is_a_function_though_its_package_has_the_same_name():
    import lowprec.record.grid

    assert callable(lowprec.record)
