"""What can go wrong between a program and the cluster. What a function raises
is raised as it is."""

from concurrent.futures.process import BrokenProcessPool


class TrineError(Exception):
    """Something went wrong that the function has no part in."""


class Unreachable(TrineError, ConnectionError):
    """No node answers. Tasks that were sent may still be executed."""


class Denied(TrineError, PermissionError):
    """The credential is missing, wrong, or gives no right to these jobs. Nothing was done."""


class Refused(TrineError):
    """The node understood and said no. Nothing was done."""


class NotStarted(TrineError):
    """The task could not be started: no such interpreter, another Python
    version, no cloudpickle, a blob that is gone. It had no effect."""


class Lost(TrineError):
    """The workers that executed the task were lost, again and again. It may have had effects."""


class CannotUnpickle(BrokenProcessPool):
    """A function, its arguments or its result cannot be made out of their
    pickle on the other side; the text says why. The executor goes on."""
