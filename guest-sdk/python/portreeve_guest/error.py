"""The error of a plugin: a text for the gateway's log."""


class Error(Exception):
    """Why a plugin could not do its work. Its text goes to the gateway's log as it is.

    Any other exception ends the call in the same way; its type and its line are then put before and
    after its text.
    """
