// The exit codes of meshd. `meshd --help` prints them, and service managers rely on them: the systemd unit does not
// restart after `usage`. `unexpected` is EX_SOFTWARE of sysexits.h. Commander itself uses 1 for wrong arguments;
// main.ts makes `usage` of that.
export const EXIT = { ok: 0, failed: 1, usage: 2, unexpected: 70 } as const

/** The meaning of each code, in the order of `EXIT`, for the help text. */
export const EXIT_MEANINGS: readonly (readonly [code: number, meaning: string])[] = [
  [EXIT.ok, 'ended by SIGINT or SIGTERM'],
  [
    EXIT.failed,
    'could not start; the reason and the fix are on standard error, and a later start may succeed'
  ],
  [EXIT.usage, 'a wrong flag, argument or setting: a restart does not help'],
  [
    EXIT.unexpected,
    'a fault of the program, which the log describes; a restart continues with the state on disk and in the kernel'
  ]
]
