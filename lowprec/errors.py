"""How every error of the package is worded: `` `name` must be …, got …. remedy``."""


def value_error(name: str, must: str, got: object, remedy: str = "") -> ValueError:
    """A ValueError that says which argument is wrong, what it must be, and what to do."""
    return ValueError(sentence(name, must, got, remedy))


def type_error(name: str, must: str, got: object, remedy: str = "") -> TypeError:
    """The same for an argument of the wrong type."""
    return TypeError(sentence(name, must, got, remedy))


def sentence(name: str, must: str, got: object, remedy: str = "") -> str:
    """The one wording, for errors of other kinds too; ``got`` is shown by repr."""
    return f"`{name}` must {must}, got {got!r}.{' ' + remedy if remedy else ''}"
