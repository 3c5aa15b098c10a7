"""The one exception that speaks to the user."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can mend.

    The message names what is wrong, in which file or key, and what to do about it. The command
    line prints it without a traceback and exits with status 1. Broken invariants of our own code
    are ``assert`` statements instead.
    """
