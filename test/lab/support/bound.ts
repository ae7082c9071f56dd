// Programs that tests start must not outlive the test run, however it ends: with SIGKILL, no handler of ours runs.
// The kernel does it: a process can ask for a signal at its parent's death.

/** The command that runs `argv` and dies with the process that starts it. Its pid is the program's own (setpriv execs). */
export function bound(argv: readonly string[]): readonly string[] {
  return process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', ...argv] : argv
}
