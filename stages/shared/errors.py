"""The one error of this project: a mistake that the user can mend."""


class UserError(ValueError):
    """The message says, on one line, what was expected, what was found, where, and what to do."""
