// The one table of exit codes: `meshctl --help` prints it, the tests read it, scripts may rely on it.

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
 * The exit code for `error.code` of an ErrorAnswer, which is UPPER_SNAKE, or a code of src/core/trust as it is (expired,
 * TOKEN_EXPIRED and MESH_EXPIRED are one). A code without a row is told by what it is about, else 1.
 */
export function exitCodeOf(code: string): ExitCode {
  const whole = code.replaceAll(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()
  const word = whole.replace(/^(TOKEN|MESH|HANDSHAKE)_/, '')
  const row = ROWS.find(([, codes]) => codes.includes(whole) || codes.includes(word))
  if (row !== undefined) return row[0]
  return ABOUT_ADMISSION.test(whole) ? EXIT.refused : EXIT.failed
}

const ROWS: readonly (readonly [ExitCode, readonly string[]])[] = [
  [EXIT.usage, ['BAD_REQUEST', 'BAD_ARGUMENT']],
  [EXIT.unreachable, ['AGENT_UNREACHABLE', 'KUBERNETES_UNREACHABLE']],
  [EXIT.notJoined, ['NOT_JOINED']],
  // meshd answered, but no member that the token names did.
  [EXIT.timeout, ['UNREACHABLE', 'TIMEOUT', 'BUSY']],
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

const ABOUT_ADMISSION = /^(TOKEN|MESH|INVITE|CERTIFICATE|NAME|CLUSTER|PREFIX|CIDR|OVERLAP)_/
