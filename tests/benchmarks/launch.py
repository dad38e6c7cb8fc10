"""Run one command as a child of this small process and say what it cost.

    python launch.py LIMIT_SECONDS LIMIT_BYTES LOG COMMAND...

Standard library only, and little of it: the kernel's peak of a child begins with the memory of its parent.
"""

import json
import os
import subprocess
import sys
import threading
import time

CHECK_SECONDS = 0.05


def launch(command: list[str], log: str, limit_seconds: float, limit_bytes: int) -> dict[str, object]:
    """Run to the end, or to a limit -> seconds, processor_seconds, peak_bytes, code, and why it was stopped."""
    stopped = ""
    with open(log, "wb") as output:  # noqa: PTH123  (pathlib would add to this process's memory)
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        done = threading.Event()

        def watch() -> None:
            nonlocal stopped
            while not done.wait(CHECK_SECONDS):
                if time.monotonic() - begun > limit_seconds:
                    stopped = "time"
                elif _resident(child.pid) > limit_bytes:
                    stopped = "memory"
                if stopped:
                    child.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begun
        done.set()
        watcher.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024,
        "code": child.returncode,
        "stopped": stopped,
    }


def _resident(process: int) -> int:
    """Bytes held now; 0 where /proc does not tell, and once the process has ended."""
    try:
        with open(f"/proc/{process}/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    print(json.dumps(launch(sys.argv[4:], sys.argv[3], float(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201
