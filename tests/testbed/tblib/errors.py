"""What can go wrong, as exceptions that carry the exit code of the command line."""


class TestbedError(Exception):
    """Says what failed and what to do; exit code 1."""

    __test__ = False  # not a test class, whatever its name says to collectors
    exit_code = 1


class Unsupported(TestbedError):
    """Needs root and namespaces, which these hosts do not have; tests skip on it. EX_TEMPFAIL."""

    exit_code = 75
