"""The one exception family for "not now, and this is why"."""


class Refused(Exception):
    """A rule says no. The text is fit for the person who asked; nothing was changed."""
