"""The networks by name, and how a user's own is found and checked."""

import pytest
import torch
from torch import nn

from lowprec.app import models


@pytest.mark.parametrize(
    ("name", "num_parameters"), [("mlp", 109_386), ("cnn", 105_866), ("resnet20", 271_994)]
)
def test_models_classify_and_have_their_size(name, num_parameters):
    factory = models.find(name)
    models.check(name, factory)
    model = factory()
    assert sum(p.numel() for p in model.parameters()) == num_parameters
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_resnet20_has_twenty_layers_besides_its_shortcuts():
    model = models.resnet20()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [m for m in layers if getattr(m, "kernel_size", None) == (1, 1)]
    assert len(layers) - len(shortcuts) == 20
    assert len(shortcuts) == 2


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module of the user's into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text("from torch import nn\n" + text)

    return write


def test_a_factory_of_the_current_folder_is_found(own_module):
    own_module("own_net", "class Zoo:\n  make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))")
    factory = models.find("own_net:Zoo.make")
    models.check("own_net:Zoo.make", factory)
    assert isinstance(factory()[1], nn.Linear)


@pytest.mark.parametrize("name", ["vgg", "", ":f", "m:", "own_net"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"`--model` must be mlp, cnn, resnet20 or package\.module"):
        models.find(name)


def test_a_module_that_cannot_be_imported_is_named(own_module):
    message = r"`--model` must be importable, got 'nowhere_net:f'\. Its module raised ModuleNotFoundError"
    with pytest.raises(ImportError, match=message):
        models.find("nowhere_net:f")
    own_module("broken_net", "1 / 0")
    with pytest.raises(ImportError, match=r"got 'broken_net:f'\. Its module raised ZeroDivisionError"):
        models.find("broken_net:f")


def test_the_factory_must_exist_and_be_callable(own_module):
    own_module("empty_net", "number = 3")
    with pytest.raises(ValueError, match="name something in the module empty_net, got 'empty_net:f'"):
        models.find("empty_net:f")
    with pytest.raises(TypeError, match="`--model` must name a function without arguments"):
        models.find("empty_net:number")


def test_what_the_factory_builds_is_checked():
    with pytest.raises(ValueError, match=r"accept images of shape \(2, 1, 28, 28\).*TypeError"):
        models.check("f", lambda wanted: None)
    with pytest.raises(ValueError, match=r"accept images .*RuntimeError"):
        models.check("f", lambda: nn.Linear(3, 10))
    with pytest.raises(TypeError, match=r"`--model` must build a torch\.nn\.Module, got 'int'"):
        models.check("f", lambda: 3)
    with pytest.raises(ValueError, match=r"return scores of shape \(2, 10\), got \(2, 784\)"):
        models.check("f", nn.Flatten)
    with pytest.raises(ValueError, match="`--model` must have parameters to train"):
        models.check("f", lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten()))
