"""What is wrong with an answer or with a setting."""


class Failure(Exception):
    """Admits nobody."""
