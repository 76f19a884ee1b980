"""Settings are checked, and the runs follow from them."""

import math
import os

import pytest

from lowprec.app.settings import Run, Settings, load_schemes, plan
from lowprec.scheme import SCHEMES


@pytest.mark.parametrize("name", ["seeds", "epochs", "batch_size", "train_size", "threads"])
def test_counts_are_at_least_one(name):
    option = "--" + name.replace("_", "-")
    with pytest.raises(ValueError, match=f"`{option}` must be at least 1, got 0"):
        Settings(**{name: 0})


@pytest.mark.parametrize("name", ["lr", "loss_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_rates_are_positive(name, value):
    with pytest.raises(ValueError, match="must be a positive number, got"):
        Settings(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_momentum_lies_between_zero_and_one(value):
    with pytest.raises(ValueError, match="`--momentum` must be at least 0 and below 1, got"):
        Settings(momentum=value)


def test_threads_and_checkpoint_seconds_have_limits():
    cores = os.cpu_count()
    with pytest.raises(ValueError, match=f"`--threads` must be at most the {cores} of this machine"):
        Settings(threads=cores + 1)
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="`--checkpoint-seconds` must be at least 0, got"):
            Settings(checkpoint_seconds=value)


def test_settings_survive_a_checkpoint_of_a_larger_machine():
    values = Settings(scheme=("bf16",), lr=0.1).to_dict() | {"threads": 4096}
    settings = Settings.from_dict(values)
    assert settings.threads == 4096
    assert settings.to_dict() == values


def test_the_default_runs():
    settings = Settings(seeds=2)
    runs = plan(settings, load_schemes(settings))
    one_seed = [
        ("float32", 0.9), ("fp8-hybrid", 0.9), ("bfp8-sr", 0.9),
        ("float32", 0.0), ("fixed8", 0.0), ("fixed8-sr", 0.0),
    ]  # fmt: skip
    assert runs == tuple(Run(name, m, seed) for seed in (0, 1) for name, m in one_seed)


def test_every_momentum_in_use_gets_one_twin():
    settings = Settings(scheme=("fixed8", "float32"), momentum=0.5)
    runs = plan(settings, load_schemes(settings))
    assert runs == (Run("float32", 0.5, 0), Run("fixed8", 0.5, 0))
    settings = Settings(scheme=("float32",))
    assert plan(settings, load_schemes(settings)) == (Run("float32", 0.9, 0),)


def test_a_file_is_a_scheme_called_like_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SCHEMES["bfp8"].to_toml())
    assert load_schemes(Settings(scheme=(str(path),))) == {"mine": SCHEMES["bfp8"]}


def test_the_loss_scale_is_set_in_every_scheme():
    schemes = load_schemes(Settings(scheme=("fp8-hybrid", "fixed8"), loss_scale=8.0))
    assert [scheme.loss_scale for scheme in schemes.values()] == [8.0, 8.0]
    with pytest.raises(ValueError, match="`--loss-scale` must have a scheme besides float32"):
        load_schemes(Settings(scheme=("float32",), loss_scale=8.0))


def test_a_scheme_must_be_known_and_come_once(tmp_path):
    with pytest.raises(ValueError, match=r"`--scheme` must be a known name .*Known: float32, bf16"):
        load_schemes(Settings(scheme=("fp9",)))
    with pytest.raises(ValueError, match="`--scheme` must name each scheme once, got 'bf16'"):
        load_schemes(Settings(scheme=("bf16", "bf16")))
    with pytest.raises(FileNotFoundError, match=r"be an existing file, got 'nowhere\.toml'"):
        load_schemes(Settings(scheme=("nowhere.toml",)))
    path = tmp_path / "float32.toml"
    path.write_text(SCHEMES["bfp8"].to_toml())
    with pytest.raises(ValueError, match="`--scheme` must not be called float32"):
        load_schemes(Settings(scheme=(str(path),)))
    path = tmp_path / "damaged.toml"
    path.write_text("input = [")
    with pytest.raises(ValueError, match=r"damaged\.toml"):
        load_schemes(Settings(scheme=(str(path),)))
