"""The modes: their names, which of them look at noise, and what is refused."""

import pickle
import re

import pytest

from lowprec.modes import Overflow, Rounding, Specials, check_random_bits

CHOICES = {
    Rounding: (
        "nearest_even nearest_away nearest_zero nearest_odd nearest_up nearest_down toward_zero away up "
        "down to_odd stochastic stochastic_midpoint stochastic_nearest stochastic_equal"
    ),
    Overflow: "saturate saturate_all infinity wrap unbounded",
    Specials: "ieee fn fnuz finite",
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_members_in_their_order(choice):
    assert " ".join(choice) == CHOICES[choice]
    for member in choice:
        assert choice.parse(member, "mode") is member
        assert choice.parse(str(member), "mode") is member
        assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize("choice", CHOICES)
def test_unknown_names_list_the_members(choice):
    members = re.escape(", ".join(choice))
    with pytest.raises(ValueError, match=f"`mode` must be a known name, got 'odd'. .*{members}."):
        choice.parse("odd", "mode")
    with pytest.raises(TypeError, match=f"`mode` must be a string, got 3. .*{members}."):
        choice.parse(3, "mode")


def test_nearest_is_nearest_even():
    assert Rounding.parse("nearest", "rounding") is Rounding.NEAREST_EVEN


def test_which_modes_look_at_noise():
    stochastic = [str(mode) for mode in Rounding if mode.is_stochastic]
    assert stochastic == ["stochastic", "stochastic_midpoint", "stochastic_nearest", "stochastic_equal"]
    assert [str(mode) for mode in Rounding if mode.takes_random_bits] == stochastic[:3]


@pytest.mark.parametrize("mode", Rounding)
def test_random_bits_are_refused_where_they_mean_nothing(mode):
    check_random_bits(None, mode)
    if mode.takes_random_bits:
        check_random_bits(1, mode)
        check_random_bits(32, Rounding.NEAREST_EVEN, mode)
        return
    message = (
        f"`random_bits` must be None where rounding is '{mode}', got 8. "
        "Only stochastic, stochastic_midpoint, stochastic_nearest look at that many bits."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_random_bits(8, mode)


@pytest.mark.parametrize("bits", [0, -1, 33])
def test_random_bits_have_a_range(bits):
    with pytest.raises(ValueError, match=f"`random_bits` must lie between 1 and 32, got {bits}"):
        check_random_bits(bits, Rounding.STOCHASTIC)


@pytest.mark.parametrize("bits", [8.0, "8", True])
def test_random_bits_are_an_integer(bits):
    with pytest.raises(TypeError, match="`random_bits` must be an integer or None, got"):
        check_random_bits(bits, Rounding.STOCHASTIC)
