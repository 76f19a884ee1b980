"""What a drawing refuses."""

import pytest

from lowprec.drawing import axes_of


def test_only_axes_are_drawn_on() -> None:
    with pytest.raises(TypeError, match="`ax` must be Axes of Matplotlib or None, got 'left'"):
        axes_of("left")
