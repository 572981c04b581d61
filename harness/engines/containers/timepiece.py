"""By what is a node's time of day set apart from the machine's? By a file that a library preloaded into it reads.

*Rate*: how many seconds pass for the node in one of ours. The library counts from when it was loaded, so that a clock
whose rate is set late would jump by all that it had missed: what is written makes up for that.
"""

from __future__ import annotations

from harness.engines.containers.images import CLOCK_LIBRARY

CLOCK_FILE = "/etc/assay-clock"
CLOCK_FILES = {CLOCK_FILE: "+0\n"}
CLOCK_ENVIRONMENT = {
    "ASSAY_PRELOAD": CLOCK_LIBRARY,  # its entry point preloads it, once it is the user that it stays
    "FAKETIME_TIMESTAMP_FILE": CLOCK_FILE,
    "FAKETIME_NO_CACHE": "1",
    "FAKETIME_DISABLE_SHM": "1",  # else a process that has changed its user waits for ever for what root has made
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # timers go on, as they do when a real clock is set
}

# When the first process became the broker: the shells before it have one thread, and its others are started with it.
# All in one shell, so that no time passes between the reading of the clock and the writing; ticks are 10 ms. The file
# is renamed, so that nobody reads half of it, at which the library would end the process; and the rate is always
# written, for the library keeps the last one where none is.
_CHANGE = """set -e
age=0
if [ {milli_rate} -ne 1000 ]; then
  begun=$(for task in /proc/1/task/*; do [ "$task" = /proc/1/task/1 ] || cut -d' ' -f22 "$task/stat"; done 2>/dev/null |
    sort -n | head -n 1)
  [ -n "$begun" ] || {{ echo "nobody knows since when it runs" >&2; exit 1; }}
  age=$(( $(cut -d' ' -f22 /proc/self/stat) - begun ))
fi
ms=$(( {offset_ms} - ({milli_rate} - 1000) * age / 100 ))
sign=+
[ $ms -ge 0 ] || {{ sign=-; ms=$(( -ms )); }}
printf '%s%d.%03d x%d.%03d\\n' $sign $((ms / 1000)) $((ms % 1000)) {rate} >{file}.new
mv {file}.new {file}
"""


def change(offset_s: float, rate: float) -> tuple[str, ...]:
    """What to run in a node's container so that its time is `offset_s` seconds apart from ours, and from then on goes
    `rate` times as fast."""
    milli_rate = round(rate * 1000)
    script = _CHANGE.format(
        offset_ms=round(offset_s * 1000),
        milli_rate=milli_rate,
        rate=f"{milli_rate // 1000} {milli_rate % 1000}",
        file=CLOCK_FILE,
    )
    return "sh", "-c", script
