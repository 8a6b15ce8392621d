"""The error class for mistakes that the user can correct."""


class UserError(ValueError):
    """Each argument is one line: what was expected, what was found, where, and what to do."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))
