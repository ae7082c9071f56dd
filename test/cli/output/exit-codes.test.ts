// Every code that the source can emit has an exit code on purpose: by its name, or by a prefix that is meant for it. The codes are read
// from the source, so a new code without a row fails here.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { codeOfKind } from '../../../src/core/model/coded-error.ts'
import type { settleClusterSecret } from '../../../src/core/trust/cluster-secret.ts'
import type { HandshakeCode } from '../../../src/core/trust/door/codes.ts'
import type { TokenRefused } from '../../../src/core/trust/token-text.ts'
import { EXIT, exitCodeOf, rowOf, type ExitCode } from '../../../src/cli/output/exit-codes.ts'
import { filesBelow } from '../../arch/source.ts'

type Conflict = Extract<ReturnType<typeof settleClusterSecret>, { kind: 'conflict' }>['code']

/** The kinds from which `codeOfKind` makes codes, by family; the types demand every kind. */
const TOKEN: Readonly<Record<TokenRefused['code'], ExitCode>> = {
  empty: EXIT.refused,
  notAToken: EXIT.refused,
  damaged: EXIT.refused,
  olderVersion: EXIT.incompatible,
  newerVersion: EXIT.incompatible,
  malformed: EXIT.refused,
  foreign: EXIT.refused
}
const MESH: Readonly<Record<HandshakeCode, ExitCode>> = {
  version: EXIT.incompatible,
  mesh: EXIT.refused,
  certificate: EXIT.refused,
  expired: EXIT.refused,
  notYet: EXIT.refused,
  clock: EXIT.refused,
  used: EXIT.refused,
  cancelled: EXIT.refused,
  nameTaken: EXIT.refused,
  prefixOverlap: EXIT.refused,
  underlay: EXIT.refused,
  quota: EXIT.refused,
  barred: EXIT.refused,
  void: EXIT.refused,
  replaced: EXIT.refused,
  unknownSponsor: EXIT.timeout,
  proof: EXIT.refused,
  ownIdentity: EXIT.refused,
  busy: EXIT.timeout,
  protocol: EXIT.refused,
  leaf: EXIT.refused,
  unspecified: EXIT.refused
}
const CLUSTER_KEY: Readonly<Record<Conflict, ExitCode>> = {
  corrupt: EXIT.failed,
  mismatch: EXIT.refused,
  other: EXIT.refused
}
const FAMILIES: Readonly<Record<string, Readonly<Record<string, ExitCode>>>> = { TOKEN, MESH, CLUSTER_KEY }

/** Codes without a family, with the exit code that a script relies on. All others of the source are `failed`. */
const SINGLE: Readonly<Record<string, ExitCode>> = {
  BAD_REQUEST: EXIT.usage,
  BAD_ARGUMENT: EXIT.usage,
  BAD_SETTING: EXIT.usage,
  AGENT_UNREACHABLE: EXIT.unreachable,
  KUBERNETES_UNREACHABLE: EXIT.unreachable,
  NETWORK: EXIT.unreachable,
  NOT_JOINED: EXIT.notJoined,
  NO_CLUSTER_KEY: EXIT.notJoined,
  UNREACHABLE: EXIT.timeout,
  TIMEOUT: EXIT.timeout,
  CLUSTER_KEY_BUSY: EXIT.timeout,
  GATEWAYS_BEHIND: EXIT.timeout,
  TOO_MANY_PINGS: EXIT.timeout,
  NOT_FOUND: EXIT.incompatible,
  INCOMPATIBLE: EXIT.incompatible,
  INTERRUPTED: EXIT.interrupted,
  ALREADY_JOINED: EXIT.refused,
  CLUSTER_KEY_TAKEN: EXIT.refused,
  NO_SEAT: EXIT.refused,
  SEAT_EXCEEDED: EXIT.refused,
  LAST_SEAT: EXIT.refused,
  ROOT_NOT_EXPORTED: EXIT.refused,
  UNKNOWN_SEAT: EXIT.refused,
  STILL_ALIVE: EXIT.refused,
  NOT_BARRED: EXIT.refused,
  BARRED: EXIT.refused,
  UNKNOWN_CLUSTER: EXIT.refused,
  AMBIGUOUS_CLUSTER: EXIT.refused,
  OWN_CLUSTER: EXIT.refused,
  UNKNOWN_AGENT: EXIT.refused,
  OWN_AGENT: EXIT.refused,
  NO_INVITE: EXIT.refused,
  INVITE_USED: EXIT.refused,
  TRANSLATION_MISMATCH: EXIT.refused,
  KEY_IN_SECRET: EXIT.refused,
  NOT_ADMITTED: EXIT.refused,
  NOT_A_GATEWAY: EXIT.refused,
  ONLY_GATEWAY: EXIT.refused,
  NOT_ALL_MOVED: EXIT.timeout,
  TOO_MANY_INVITES: EXIT.refused,
  NO_ROOT: EXIT.refused,
  BACKUP_DAMAGED: EXIT.refused,
  BACKUP_FOREIGN: EXIT.refused,
  BACKUP_NEWER: EXIT.incompatible,
  GATEWAYS_END: EXIT.refused,
  TOKEN_OTHER_CLUSTER: EXIT.refused,
  ROOT_FILE_MALFORMED: EXIT.refused,
  ROOT_FILE_OTHER: EXIT.refused,
  PASSPHRASE_WRONG: EXIT.refused,
  NAME_TAKEN: EXIT.refused,
  PREFIX_OVERLAP: EXIT.refused,
  PREFIX_HIDES: EXIT.refused,
  PREFIX_MISMATCH: EXIT.refused
}

describe('exit codes', () => {
  const sources = filesBelow('src').map((file) => ({ file, text: readFileSync(file, 'utf8') }))
  const codes = new Set([...sources.flatMap(({ text }) => codesIn(text)), ...codesOfKinds().keys()])

  it('reads the codes of every error class', () => {
    const seen = [
      'TOKEN_OLDER_VERSION',
      'MESH_NOT_YET',
      'STORE_LOCKED',
      'TOOL_TIMEOUT',
      'FORBIDDEN',
      'PROBE_LISTEN',
      'NO_SECRET'
    ]
    for (const code of [...Object.keys(SINGLE), ...seen]) assert.ok(codes.has(code), `${code} is not in src`)
    for (const { file, text } of sources) {
      for (const [, argument = ''] of text.matchAll(/new (?:App|Cli)Error\(\s*([^]{0,40})/g))
        assert.ok(
          /^'[A-Z][A-Z0-9_]+'|^codeOfKind\('/.test(argument) || PASSED_ON[file] === argument.split(',')[0],
          `${file} makes a code in another way: ${argument}`
        )
    }
  })

  it('makes the codes of kinds with one function', () => {
    const families = sources.flatMap(({ text }) =>
      [...text.matchAll(/codeOfKind\('([A-Z_]+)'/g)].map(([, family = '']) => family)
    )
    assert.deepEqual(new Set(families), new Set(Object.keys(FAMILIES)))
    assert.equal(codeOfKind('MESH', 'notYet'), 'MESH_NOT_YET')
    assert.equal(codeOfKind('TOKEN', 'notAToken'), 'TOKEN_NOT_A_TOKEN')
    assert.equal(codeOfKind('CLUSTER_KEY', 'corrupt'), 'CLUSTER_KEY_CORRUPT')
  })

  it('has a row for every code of the source, or a prefix that is meant for it', () => {
    for (const code of codes) assert.notEqual(rowOf(code), undefined, `${code} has no row in exit-codes.ts`)
  })

  it('gives each code its own exit code, whatever the codes that begin alike', () => {
    const kinds = codesOfKinds()
    for (const code of codes)
      assert.equal(exitCodeOf(code), kinds.get(code) ?? SINGLE[code] ?? EXIT.failed, code)
  })

  it('takes the longest prefix for a code of a newer meshd, and else 1', () => {
    for (const [code, exit] of [
      ['TOKEN_OF_TOMORROW', EXIT.refused],
      ['MESH_OF_TOMORROW', EXIT.refused],
      ['CLUSTER_OF_TOMORROW', EXIT.failed],
      ['OF_TOMORROW', EXIT.failed],
      ['TOKEN', EXIT.failed],
      ['', EXIT.failed]
    ] as const)
      assert.equal(exitCodeOf(code), exit, code)
  })
})

/** A call that passes on the code of an answer of meshd. */
const PASSED_ON: Readonly<Record<string, string>> = { 'src/cli/meshd/client.ts': 'String(code)' }

function codesOfKinds(): ReadonlyMap<string, ExitCode> {
  return new Map(
    Object.entries(FAMILIES).flatMap(([family, kinds]) =>
      Object.entries(kinds).map(([kind, exit]) => [codeOfKind(family, kind), exit] as const)
    )
  )
}

/** The codes of the edges are unions of literals, those of src/app and src/cli literals at the place of the error. */
function codesIn(text: string): readonly string[] {
  const unions = [
    ...text.matchAll(/type \w*ErrorCode =((?:\s*\|?\s*'[A-Z0-9_]+'|\s*\/\/.*|\s*\/\*\*.*\*\/)+)/g)
  ]
  return [
    ...unions.flatMap(([, union = '']) => [...union.matchAll(/'([A-Z0-9_]+)'/g)]),
    ...text.matchAll(/new \w+Error\(\s*'([A-Z][A-Z0-9_]+)'/g),
    ...text.matchAll(/CodedError<'([A-Z0-9_]+)'>/g),
    ...text.matchAll(/\bcode: '(INTERNAL)'/g)
  ].map(([, code = '']) => code)
}
