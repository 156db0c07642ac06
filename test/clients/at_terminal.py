"""Runs a command at a pseudo terminal, types answers, and prints what was shown, as JSON."""

import json
import os
import pty
import select
import sys
import time

job = json.loads(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    os.execvpe(job["command"][0], job["command"], job["environment"])

screen = b""
answers = list(job["answers"])
give_up_at = time.monotonic() + 60
shown_from = 0
while time.monotonic() < give_up_at:
    ready, _, _ = select.select([terminal], [], [], 1)
    if ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        screen += data
    if answers and answers[0][0].encode() in screen[shown_from:]:
        shown_from = len(screen)
        os.write(terminal, answers.pop(0)[1].encode())
else:
    os.kill(pid, 9)
_, status = os.waitpid(pid, 0)
code = os.waitstatus_to_exitcode(status)
json.dump({"code": code, "screen": screen.decode("utf-8", "replace")}, sys.stdout)
