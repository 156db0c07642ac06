/** The log of a process that runs no server: lines like those of the servers', on standard error. */

export interface PrimaryLog {
  warn(message: string): void;
  error(message: string): void;
}

const levels = { warn: 40, error: 50 } as const;
/** Settings of the log's level that leave a line out. */
const above: Record<keyof typeof levels, readonly string[]> = {
  warn: ["error", "fatal", "silent"],
  error: ["fatal", "silent"],
};

/** Creates the log. `level` is that of the setting. */
export function createPrimaryLog(level: string): PrimaryLog {
  const write = (name: keyof typeof levels) => (msg: string) => {
    if (above[name].includes(level)) return;
    process.stderr.write(
      `${JSON.stringify({ level: levels[name], time: Date.now(), pid: process.pid, msg })}\n`,
    );
  };
  return { warn: write("warn"), error: write("error") };
}
