"""Memory in pages of 2 MB, for arrays on a CPU."""

import os
import sys

SETTING = 'GLIBC_TUNABLES'


def restart_with() -> None:
    """Starts a command of `python -m` anew, as the same process, such that glibc asks for them.

    XLA allocates the arrays of a step anew each time, and Linux hands their memory out page by
    page, each zeroed when it is first touched: in pages of 4 KB, up to a third of a train step.
    glibc reads the setting when a process starts, and then alone. Where it is set, it is left as it
    is; glibc before 2.35 does not know it.

    For the first import of a package: its modules, JAX among them, are not imported twice then.
    """
    is_command = sys.argv[0] == '-m'  # as Python has it until the module is found
    if sys.platform == 'linux' and is_command and sys.executable and SETTING not in os.environ:
        os.environ[SETTING] = 'glibc.malloc.hugetlb=1'
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
