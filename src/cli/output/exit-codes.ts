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
  { exit: EXIT.failed, meaning: 'failed for another reason: see the message' },
  { exit: EXIT.usage, meaning: 'wrong command line, or an invalid value' },
  {
    exit: EXIT.unreachable,
    meaning: 'meshd does not answer on its socket, or a Kubernetes API server does not answer'
  },
  { exit: EXIT.notJoined, meaning: 'this cluster is in no mesh yet: run meshctl init or meshctl join' },
  {
    exit: EXIT.refused,
    meaning: 'refused: token used, expired or foreign, name or prefix taken, already joined'
  },
  {
    exit: EXIT.timeout,
    meaning: 'meshd or a member did not answer in time, or was busy: run the same command again'
  },
  { exit: EXIT.incompatible, meaning: 'the versions of meshctl, meshd or the token are not compatible' },
  { exit: EXIT.interrupted, meaning: 'interrupted with Ctrl-C (Ctrl-C during --watch gives 0)' }
]

/** Returns the exit code for the code of a CliError or of an ErrorAnswer. A code without a row is `failed`. */
export function exitCodeOf(code: string): ExitCode {
  return rowOf(code) ?? EXIT.failed
}

/**
 * Returns the exit code of the row for a code: the row with exactly this code, else the one with the longest prefix of
 * it. undefined: there is no row, as for a code of a newer meshd.
 */
export function rowOf(code: string): ExitCode | undefined {
  const exact = CODES.find(([, codes]) => codes.includes(code))
  return exact?.[0] ?? PREFIXES.find(([prefix]) => code.startsWith(prefix))?.[1]
}

// The families of codes, for their members without a row of their own. Longer prefixes come first. The kinds of a family
// are those of core/trust: codeOfKind makes the codes.
const PREFIXES = (
  [
    ['TOKEN_', EXIT.refused],
    ['MESH_', EXIT.refused],
    ['INVITE_', EXIT.refused],
    ['NAME_', EXIT.refused],
    ['PREFIX_', EXIT.refused],
    // The disk and the state folder of meshd.
    ['STORE_', EXIT.failed],
    ['IDENTITY_', EXIT.failed],
    // The programs on the host that meshd runs, such as `nft`.
    ['TOOL_', EXIT.failed],
    // CoreDNS and its Corefile.
    ['COREFILE_', EXIT.failed]
  ] as const
).toSorted(([a], [b]) => b.length - a.length)

// The codes of each exit code. test/cli/output/exit-codes.test.ts reads the codes of the whole source, and fails for one
// that has neither a row here nor a prefix.
const CODES: readonly (readonly [ExitCode, readonly string[]])[] = [
  [EXIT.usage, ['BAD_REQUEST', 'BAD_ARGUMENT', 'BAD_SETTING']],
  // NETWORK: meshd cannot reach the Kubernetes API server of its cluster.
  [EXIT.unreachable, ['AGENT_UNREACHABLE', 'KUBERNETES_UNREACHABLE', 'NETWORK']],
  [EXIT.notJoined, ['NOT_JOINED', 'NO_CLUSTER_KEY']],
  // UNREACHABLE: meshd answered, but no member that the token names did. MESH_BUSY: a member refused the handshake for
  // now. MESH_UNKNOWN_SPONSOR: it does not know this cluster yet. CLUSTER_KEY_BUSY: other clients changed the Secret of
  // the key at the same time. GATEWAYS_BEHIND: other gateways of the cluster have not followed yet.
  // TOO_MANY_PINGS: other pings of this agent have not ended yet. NOT_ALL_MOVED: hosts still send by a drained gateway.
  [
    EXIT.timeout,
    [
      'UNREACHABLE',
      'TIMEOUT',
      'MESH_BUSY',
      'MESH_UNKNOWN_SPONSOR',
      'CLUSTER_KEY_BUSY',
      'GATEWAYS_BEHIND',
      'TOO_MANY_PINGS',
      'NOT_ALL_MOVED'
    ]
  ],
  // NOT_FOUND: meshd has no such request, so it is older or newer than meshctl.
  [
    EXIT.incompatible,
    [
      'NOT_FOUND',
      'INCOMPATIBLE',
      'MESH_VERSION',
      'TOKEN_NEWER_VERSION',
      'TOKEN_OLDER_VERSION',
      'BACKUP_NEWER'
    ]
  ],
  [EXIT.interrupted, ['INTERRUPTED']],
  [
    EXIT.refused,
    [
      'ALREADY_JOINED',
      'CLUSTER_KEY_TAKEN',
      'CLUSTER_KEY_MISMATCH',
      'CLUSTER_KEY_OTHER',
      // Administrators: the right, the state or the name does not allow it.
      'NO_SEAT',
      'SEAT_EXCEEDED',
      'LAST_SEAT',
      'ROOT_NOT_EXPORTED',
      'UNKNOWN_SEAT',
      'STILL_ALIVE',
      'NOT_BARRED',
      'BARRED',
      'UNKNOWN_CLUSTER',
      'AMBIGUOUS_CLUSTER',
      'OWN_CLUSTER',
      'UNKNOWN_AGENT',
      'NOT_A_GATEWAY',
      'ONLY_GATEWAY',
      'OWN_AGENT',
      'NO_INVITE',
      'INVITE_USED',
      'TRANSLATION_MISMATCH',
      'KEY_IN_SECRET',
      'NOT_ADMITTED',
      'GATEWAYS_END',
      'TOKEN_OTHER_CLUSTER',
      'TOO_MANY_INVITES',
      'NO_ROOT',
      'BACKUP_DAMAGED',
      'BACKUP_FOREIGN',
      'ROOT_FILE_MALFORMED',
      'ROOT_FILE_OTHER',
      'PASSPHRASE_WRONG'
    ]
  ],
  [
    EXIT.failed,
    [
      // meshctl
      'BAD_ANSWER',
      'BAD_KUBECONFIG',
      'CLUSTER_DNS_DAMAGED',
      'INCOMPLETE',
      'INTERNAL',
      'NO_AGENT_CONTAINER',
      // meshd: enrolment, its socket and its other servers
      'ALREADY_CHANGING',
      'FOREIGN_IMPORT',
      'FOREIGN_SLICE',
      'FOUNDED_BEFORE',
      'LEAVE_UNFINISHED',
      'BACKUP_TOO_LARGE',
      'KEY_CHANGING',
      'NO_MEMBER',
      'CLUSTER_KEY_CORRUPT',
      'NO_DNS_SERVICE',
      'NO_NAMES',
      'SOCKET_IN_USE',
      'SOCKET_PATH_TAKEN',
      'ADDRESS_NOT_LOCAL',
      'ADDRESS_UNAVAILABLE',
      'BAD_ADDRESS',
      'BAD_UPSTREAM',
      'COREDNS_NOT_TOLD',
      'LISTEN_FAILED',
      'LISTEN_INVALID',
      'PORT_FORBIDDEN',
      'PORT_IN_USE',
      'PROBE_LISTEN',
      'PROCESS_FAILED',
      'SEED_INVALID',
      // the Kubernetes API, for meshd or meshctl
      'API_FAILED',
      'BAD_CONFIG',
      'BAD_RESPONSE',
      'CONFLICT',
      'FORBIDDEN',
      'GONE',
      'NOTHING_TO_WIRE',
      'NOT_IN_CLUSTER',
      'NO_CONFIGURATION',
      'NO_SECRET',
      'REFUSED',
      'REFUSED_BY_KUBERNETES',
      'SERVER_FAILED',
      'STALE',
      'TOO_LARGE',
      'UNAUTHORIZED',
      // the host and the disk of meshd
      'ABORTED',
      'APPLY_FAILED',
      'DEVICE_TAKEN',
      'DISK_FULL',
      'IPV6_OFF',
      'KEY_MISMATCH',
      'NOT_LINUX',
      'NOT_ROOT',
      'NO_LOAD_BALANCER',
      'NO_TRANSLATION',
      'NO_TUN',
      'OUTPUT_TOO_LARGE',
      'ROUTE_TAKEN',
      'SECOND_INSTANCE',
      'STATE_EXPOSED',
      'STATE_UNREADABLE',
      'SYSCTL_FAILED'
    ]
  ]
]
