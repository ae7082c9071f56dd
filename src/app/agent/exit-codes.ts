// The exit codes of meshd. `meshd --help` prints them, and service managers may rely on them.
export const EXIT = { ok: 0, failed: 1, usage: 2, unexpected: 70 } as const

export const EXIT_MEANINGS: readonly (readonly [code: number, meaning: string])[] = [
  [EXIT.ok, 'ended by SIGINT or SIGTERM'],
  [
    EXIT.failed,
    'could not start; the reason and the fix are on standard error, and a later start may succeed'
  ],
  [EXIT.usage, 'a wrong flag, argument or setting: a restart does not help'],
  [
    EXIT.unexpected,
    'a fault of the program, logged whole; a restart goes on from what is on disk and in the kernel'
  ]
]
