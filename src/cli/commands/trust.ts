// `meshctl trust status|log`: the trust set as this agent holds it, and why each thing stands or not. The rows come from
// GET /v1/trust. Both commands only read. Two members that hold the same statements show the same standing; what is in force
// of a contested claim may differ, because each member keeps the claimant that it knew first (rule E1).
import type { Command } from 'commander'
import type {
  SeatRow,
  StandingRow,
  StatementRow,
  TrustAnswer,
  TrustedClusterRow
} from '../../api/trust-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print, type Context, type Rendered } from '../meshd/context.ts'
import { formatFields, formatTable } from '../output/table.ts'

/** Adds the command `trust`. Errors of meshd: NOT_JOINED (exit code 4). */
export function addTrust(program: Command): void {
  const trust = program
    .command('trust')
    .summary('who may do what in this mesh, and why')
    .description(
      'Shows the trust set: signed statements that all members hold, and what follows from them here.'
    )
  const status = trust
    .command('status')
    .summary('roots, administrators and clusters, and why each stands or not')
    .description(
      'Lists roots, seats of administrators, and all cluster keys. A key that does not stand shows the rule and the ' +
        'statement that ended it. Contested names and prefixes show which cluster has them in force here.'
    )
    .action(async () => {
      const context = contextOf(status, { hasTable: true })
      print(context, await fetchTrust(context), (answer) => renderStatus(answer, context))
    })
  const log = trust
    .command('log')
    .summary('every statement of the set')
    .description(
      'Lists each statement with its signer. The set only grows: a statement that no longer counts stays listed.'
    )
    .action(async () => {
      const context = contextOf(log, { hasTable: true })
      print(context, await fetchPart(context, 'statements'), ({ statements }) =>
        renderLog(statements, context)
      )
    })
  addExamples(trust, [
    ['Who may do what, and what does not stand', 'meshctl trust status'],
    ['Every statement', 'meshctl trust log']
  ])
  addExamples(status, [
    ['Why a cluster is out', 'meshctl trust status'],
    [
      'Keys of all clusters, for a script',
      `meshctl trust status --json | jq -r '.clusters[] | "\\(.name) \\(.key)"'`
    ]
  ])
  addExamples(log, [['What was signed by whom', 'meshctl trust log']])
}

/** Asks meshd for the trust set. The answer has no secrets. Errors of meshd: NOT_JOINED (exit code 4). */
function fetchTrust(context: Context): Promise<TrustAnswer> {
  return context.client.request(ENDPOINTS.trust, { field: 'clusters', doing: 'reading the trust set' })
}

/**
 * The one part of the trust set that a command is about: `admin list`, `invite list`, `root status` and `trust log` print no
 * other one, also with -o json. Errors: those of `fetchTrust`.
 */
export async function fetchPart<K extends keyof TrustAnswer>(
  context: Context,
  part: K
): Promise<Pick<TrustAnswer, 'apiVersion' | K>> {
  const answer = await fetchTrust(context)
  // TypeScript takes a computed key for any string.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return { apiVersion: answer.apiVersion, [part]: answer[part] } as Pick<TrustAnswer, 'apiVersion' | K>
}

/**
 * Renders roots, seats, clusters and contested claims as tables one below the other. `-o name` prints the names of the
 * clusters.
 */
function renderStatus(answer: TrustAnswer, context: Context): Rendered {
  if (context.format === 'name') return { body: answer.clusters.map(({ name }) => name).join('\n') }
  const parts = [
    formatFields([
      ['Mesh', answer.meshId],
      ['Roots', rootsText(answer)]
    ]),
    seatTable(answer.seats, context),
    clusterTable(answer.clusters, context)
  ]
  if (answer.contested.length > 0)
    parts.push(
      formatTable(
        answer.contested,
        [
          { title: 'CONTESTED', value: (row) => `${row.what} ${row.value}` },
          { title: 'IN FORCE', value: (row) => row.winner },
          { title: 'ALSO CLAIMED BY', value: (row) => row.loser }
        ],
        context
      )
    )
  return { body: parts.join('\n\n') }
}

/**
 * One line about the roots: "1 of 1 sign; none here". Keys that are here should be in a file only, so the line names the
 * command that puts them there; keys in no file yet are one disk away from being lost.
 */
export function rootsText({ roots }: Pick<TrustAnswer, 'roots'>): string {
  const { k, number, held, exported, inMemory = 0, inFiles = [] } = roots
  const signs = `${k} of ${number} sign`
  if (held === 0) return `${signs}; none here`
  if (inMemory === held)
    return `${signs}; ${held} here, in memory until the next start: when you are done, run meshctl root forget`
  if (number === 1) {
    const file = exported ? 'and in a file; to remove them here' : 'in no file yet'
    return `${signs}; ${held} here, ${file}: run meshctl root export <file>`
  }
  const missing = Array.from({ length: number }, (_, index) => index + 1).filter(
    (share) => !inFiles.includes(share)
  )
  return missing.length === 0
    ? `${signs}; ${held} here, and in files; to remove them here: run meshctl root forget`
    : `${signs}; ${held} here, not yet in a file: ${missing.join(', ')}: run meshctl root export --share ${missing[0]} <file>`
}

/**
 * The table of seats. SEAT is the beginning of the id, which `admin remove` takes, too. UNDER is the label of the seat that
 * created it, or "roots". NAMES are the names that it may invite. CLUSTERS counts the clusters that stand by its invites,
 * out of how many it may have. STANDS says "no" with the rule for a seat that was taken back; it stays in the set.
 */
export function seatTable(rows: readonly SeatRow[], context: Context): string {
  return formatTable<SeatRow>(
    rows,
    [
      { title: 'ADMINISTRATOR', value: (row) => `${row.label}${row.own ? ' (here)' : ''}` },
      { title: 'SEAT', value: (row) => row.id.slice(0, 16) },
      { title: 'UNDER', value: (row) => row.under ?? 'roots' },
      { title: 'NAMES', value: (row) => row.names.join(',') },
      { title: 'CLUSTERS', value: (row) => `${row.clusters} of ${row.clustersMax}` },
      { title: 'STANDS', value: standsText, fold: 0 }
    ],
    context
  )
}

/**
 * The table of cluster keys: those that stand and those that do not, with the reason. A name has several rows after a
 * cluster came back with a new key, or when two claim it. KEY is the beginning that `decide` takes. PREFIXES are those of
 * pods, then of services, which the key has in force here. A founding cluster has no invite and no sponsor.
 */
function clusterTable(rows: readonly TrustedClusterRow[], context: Context): string {
  return formatTable<TrustedClusterRow>(
    rows,
    [
      { title: 'CLUSTER', value: (row) => row.name },
      { title: 'KEY', value: (row) => row.key.slice(0, 16) },
      { title: 'PREFIXES', value: (row) => [...row.podCidrs, ...row.serviceCidrs].join(',') || '-' },
      { title: 'NAMESPACES', value: (row) => row.namespaces?.join(',') ?? '*' },
      { title: 'INVITED BY', value: (row) => row.invitedBy ?? 'roots' },
      { title: 'ADMITTED BY', value: (row) => row.admittedBy ?? '-' },
      {
        title: 'STANDS',
        value: (row) => (row.stands && !row.hasName ? 'yes, but another key has the name' : standsText(row)),
        fold: 0
      }
    ],
    context
  )
}

/** "yes", or "no" with the rule (of docs/trust-set.md), the reason and the statements that cause it. */
function standsText({ stands, rule, reason, because }: StandingRow): string {
  return stands ? 'yes' : `no (${rule}): ${[reason, ...because].join('; ')}`
}

/**
 * One row for each statement, in the order in which this agent holds them, which may be another one elsewhere. SIGNER is a
 * seat, a cluster or the roots; SAYS is the statement in words. `-o name` prints the ids, 64 hexadecimal digits.
 */
function renderLog(rows: readonly StatementRow[], context: Context): Rendered {
  if (context.format === 'name') return { body: rows.map(({ id }) => id).join('\n') }
  return {
    body: formatTable<StatementRow>(
      rows,
      [
        { title: 'STATEMENT', value: (row) => row.id.slice(0, 16) },
        { title: 'KIND', value: (row) => row.kind },
        { title: 'SIGNER', value: (row) => row.signer },
        { title: 'SAYS', value: (row) => row.text, fold: 0 },
        { title: 'STANDS', value: (row) => (row.stands ? 'yes' : `no: ${row.reason}`), fold: 1 }
      ],
      context
    )
  }
}
