"""File formats of tensors, from bytes to arrays and back, pure.

Rules: a file is somebody else's until it proves otherwise. Nothing in it is run, no size it announces is believed
before it is held against the bytes that are there, and a reader raises FormatError, and nothing else.
"""


class FormatError(ValueError):
    """A file is not what it should be; the message is the reason, and fits behind the file's name."""
