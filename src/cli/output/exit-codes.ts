// The one table of exit codes, and the rule that finds the exit code for the code of an error. `meshctl --help` prints
// the table, the tests read it, and scripts may rely on it, so a number keeps its meaning. A script can tell "try
// again" (3, 6) from "ask for another token" (5) without reading messages.

/**
 * The exit codes by name. 2 is that of shells for a wrong command line; 130 is 128 + SIGINT, as shells report Ctrl-C.
 */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  notJoined: 4,
  refused: 5,
  timeout: 6,
  incompatible: 7,
  interrupted: 130
} as const

export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** The meaning of each exit code, for the help; every value of EXIT has one row. */
export const EXIT_CODES: readonly { readonly exit: ExitCode; readonly meaning: string }[] = [
  { exit: EXIT.ok, meaning: 'done' },
  { exit: EXIT.failed, meaning: 'failed, and none of the reasons below' },
  { exit: EXIT.usage, meaning: 'wrong command line, or a value that cannot be' },
  {
    exit: EXIT.unreachable,
    meaning: 'meshd of this host cannot be reached on its socket, or a Kubernetes API not at all'
  },
  { exit: EXIT.notJoined, meaning: 'this cluster is in no mesh yet: meshctl init or meshctl join' },
  { exit: EXIT.refused, meaning: 'refused: token expired or foreign, name or prefix taken, already joined' },
  { exit: EXIT.timeout, meaning: 'no answer in time, from meshd or from the members it asked' },
  { exit: EXIT.incompatible, meaning: 'meshctl and meshd are of versions that do not fit' },
  { exit: EXIT.interrupted, meaning: 'interrupted with Ctrl-C (ending --watch that way is 0)' }
]

/**
 * Returns the exit code for the code of a CliError or of an ErrorAnswer. Codes are UPPER_SNAKE_CASE; a code of
 * src/core/trust in camelCase is accepted, too. The prefixes TOKEN_, MESH_ and HANDSHAKE_ do not count, so expired,
 * TOKEN_EXPIRED and MESH_EXPIRED have one exit code. A code without a row is 5 when its prefix belongs to admission
 * (ABOUT_ADMISSION), else 1.
 */
export function exitCodeOf(code: string): ExitCode {
  const whole = code.replaceAll(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()
  const word = whole.replace(/^(TOKEN|MESH|HANDSHAKE)_/, '')
  const row = ROWS.find(([, codes]) => codes.includes(whole) || codes.includes(word))
  if (row !== undefined) return row[0]
  return ABOUT_ADMISSION.test(whole) ? EXIT.refused : EXIT.failed
}

// The error codes of each exit code. `refused` has the refusals of core/trust and of the handshake, and those of `init`
// and `join`.
const ROWS: readonly (readonly [ExitCode, readonly string[]])[] = [
  [EXIT.usage, ['BAD_REQUEST', 'BAD_ARGUMENT']],
  [EXIT.unreachable, ['AGENT_UNREACHABLE', 'KUBERNETES_UNREACHABLE']],
  [EXIT.notJoined, ['NOT_JOINED']],
  // UNREACHABLE: meshd answered, but no member that the token names did. BUSY: a member refused the handshake for now.
  [EXIT.timeout, ['UNREACHABLE', 'TIMEOUT', 'BUSY']],
  // NOT_FOUND: meshd has no such request, so it is older or newer than meshctl.
  [EXIT.incompatible, ['NOT_FOUND', 'INCOMPATIBLE', 'VERSION', 'NEWER_VERSION']],
  [EXIT.interrupted, ['INTERRUPTED']],
  [
    EXIT.refused,
    [
      'REFUSED',
      'ALREADY_JOINED',
      'NO_ROOT_KEY',
      'EMPTY',
      'NOT_A_TOKEN',
      'DAMAGED',
      'MALFORMED',
      'FOREIGN',
      'EXPIRED',
      'NOT_YET_VALID',
      'MESH',
      'CERTIFICATE',
      'CLOCK',
      'NAME_TAKEN',
      'PREFIX_OVERLAP',
      'PREFIX_HIDES',
      'PROOF',
      'REVOKED',
      'OWN_IDENTITY',
      'LINKS',
      'ISSUER',
      'SIGNATURE',
      'CLUSTER',
      'PREFIXES',
      'VALIDITY'
    ]
  ]
]

// Codes with these prefixes are refusals without a row of their own: CLUSTER_KEY_TAKEN, or a code of a newer meshd.
const ABOUT_ADMISSION = /^(TOKEN|MESH|INVITE|CERTIFICATE|NAME|CLUSTER|PREFIX|CIDR|OVERLAP)_/
