// `meshctl status` shows this agent on one page: membership, data plane, DNS, source of services, and each fault with
// its fix. The answer of GET /v1/status also exists while this cluster is in no mesh, so this is the first command to
// run on a new host. With --wait the command returns when the agent works, for scripts.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { HealthReport, Problem, StatusAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { problemPlace } from '../../core/catalog/problem-place.ts'
import { parseSeconds } from '../meshd/arguments.ts'
import { addExamples, contextOf, isData, type Context, type Rendered } from '../meshd/context.ts'
import { prefixesText } from '../meshd/real-prefixes.ts'
import { badArgument, CliError } from '../output/errors.ts'
import { faultList, healthLine } from '../output/health.ts'
import { showProgress } from '../output/progress.ts'
import type { Colour } from '../output/style.ts'
import { formatFields } from '../output/table.ts'
import { count, formatDuration, formatTime } from '../output/units.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

interface Options extends WatchOption {
  /**
   * Return only when the agent is in a mesh without errors, at the latest after these seconds. `true`: the flag has no
   * value.
   */
  readonly wait?: number | true
}

// The longest time of --wait without --timeout.
const WAIT_SECONDS = 120
// The pause between two requests of --wait.
const WAIT_LOOK_MS = 300

/**
 * Adds the command `status`. It succeeds when meshd answers, also with faults; only --wait turns faults into an error.
 */
export function addStatus(program: Command): void {
  const command = program
    .command('status')
    .summary('this agent on one page, with warnings and manifest problems')
    .description(
      'Shows the state of this agent, its faults and the fix of each. Exit code 0 means that meshd answered, also ' +
        'when there are faults: a script reads .health and .source.problems of --json, or uses --wait.'
    )
    .option(
      '--wait [time]',
      `wait until this agent is in a mesh without errors, at most this time, as in 30s or 5m (default: that of --timeout, or ${WAIT_SECONDS}s)`,
      (text) => parseSeconds('--wait', text)
    )
    .action(async (options: Options) => {
      const context = contextOf(command)
      if (options.wait !== undefined && options.watch !== undefined) {
        throw badArgument(
          '--wait',
          'it cannot be combined with --watch, which runs until Ctrl-C',
          'use --wait alone, and then `meshctl status --watch`'
        )
      }
      if (options.wait !== undefined) await waitUntilWell(context, options.wait)
      await showView(context, options, {
        fetch: (signal) => readStatus(context, signal),
        render: (status) => renderStatus(status, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Show this agent and its faults', 'meshctl status'],
    ['Wait until this agent is in a mesh and has no fault but warnings', 'meshctl status --wait=2m'],
    [
      'The worst fault as one line, for a script',
      "meshctl status --json | jq -r '.health.faults[0].message // empty'"
    ],
    ['Fail a script when a manifest has a problem', "meshctl status --json | jq -e '.source.problems == []'"]
  ])
}

/**
 * Asks meshd, with pauses of 300 ms, until the agent works (whatIsWrong). A failed request counts as "not yet", because
 * meshd may be starting. Errors at the deadline: CliError TIMEOUT with the last problem, or the error of the last
 * request, such as AGENT_UNREACHABLE.
 */
async function waitUntilWell(context: Context, wait: number | true): Promise<void> {
  const waitMs = wait === true ? (context.timeoutMs ?? WAIT_SECONDS * 1000) : wait * 1000
  const deadlineMs = performance.now() + waitMs
  const done = isData(context.format)
    ? () => undefined
    : showProgress('waiting until this agent is in a mesh without errors', waitMs)
  try {
    for (;;) {
      const left = deadlineMs - performance.now()
      // The signal ends a request at the deadline. AbortSignal.timeout throws for a negative number.
      const answer = await readStatus(context, AbortSignal.timeout(Math.max(1, Math.ceil(left)))).catch(
        (error: Error) => error
      )
      const wrong = whatIsWrong(answer)
      if (wrong === undefined) return
      if (performance.now() + WAIT_LOOK_MS >= deadlineMs) {
        // INTERRUPTED comes from the signal of this deadline, so it is a TIMEOUT for the user.
        if (answer instanceof CliError && answer.code !== 'INTERRUPTED') throw answer
        throw new CliError(
          'TIMEOUT',
          `--wait ended after ${formatDuration(waitMs / 1000)}: ${wrong}`,
          '`meshctl status` shows every fault with its fix; wait longer with --wait=10m'
        )
      }
      await sleep(WAIT_LOOK_MS)
    }
  } finally {
    done()
  }
}

/**
 * Returns why the agent does not work yet; undefined when it works: it is a member of a mesh, has no fault but
 * warnings, and with a data plane has made its first pass over the host. Faults are sorted, so the first one decides.
 */
function whatIsWrong(answer: StatusAnswer | Error): string | undefined {
  if (answer instanceof Error) return answer.message
  if (answer.state !== 'running') return STATES[answer.state][1]
  const worst = answer.health?.faults[0]
  if (worst !== undefined && worst.severity !== 'warning') return worst.message
  return answer.dataplane.state === 'on' && answer.lastPass === undefined
    ? 'the host has not been programmed yet'
    : undefined
}

function readStatus(context: Context, signal?: AbortSignal): Promise<StatusAnswer> {
  return context.client.request(ENDPOINTS.status, {
    field: 'state',
    doing: 'reading the status',
    ...(signal === undefined ? {} : { signal })
  })
}

/**
 * The page: fields first, then the faults, the problems of manifests, and without a mesh the commands that lead into
 * one.
 */
function renderStatus(status: StatusAnswer, context: Context): Rendered {
  const sections = [
    formatFields(
      [
        ['Health', healthLine(status.health, context)],
        ...identity(status, context),
        ...works(status, context),
        ...(status.state === 'unjoined' ? [] : activity(status, context))
      ],
      context.width
    ),
    ...faultList(withoutListed(status), context),
    ...problems(status.source.problems, context),
    ...(status.state === 'unjoined' ? [NEXT_STEPS] : [])
  ]
  return { body: sections.join('\n\n') }
}

// One line of the page.
type Field = readonly [label: string, text: string]

const STATES: Readonly<Record<StatusAnswer['state'], readonly [Colour, string]>> = {
  unjoined: ['yellow', 'in no mesh yet'],
  joining: ['yellow', 'joining'],
  running: ['green', 'running']
}

// The end of the page while this cluster is in no mesh.
const NEXT_STEPS = `Next, one of
  meshctl init --cluster <name> --pod-cidr <prefix> --service-cidr <prefix>
      starts a new mesh here
  meshctl join --token-file <file>
      enters a mesh, with a token from \`meshctl invite\` of a member`

/** A gateway needs no line: it is the default. */
const NODE_ROLE = 'node: the gateways of this cluster carry the traffic of its pods'

function identity(status: StatusAnswer, context: Context): Field[] {
  const [colour, text] = STATES[status.state]
  const state = `${context.style.paint(colour, text)}, up ${formatDuration(status.uptimeSeconds)}, meshd ${status.version}`
  return [
    ...field('Cluster', status.cluster),
    ['State', state],
    ...field('Role', status.role === 'node' ? NODE_ROLE : undefined),
    ...field('Pending token', status.pendingToken && pendingText(status.pendingToken)),
    ...field('Mesh', status.meshId),
    ...field('Peer ID', status.peerId),
    ...field('WireGuard key', status.wireguardKey),
    ...field('Pods', prefixesText(status.podCidrs, status)),
    ...field('Services', prefixesText(status.serviceCidrs, status)),
    ...field('Reach', status.reach && reachText(status.reach))
  ]
}

/** A token that is on disk, and whose cluster key a member may have received: what was not answered, and what to do. */
function pendingText({ cluster }: NonNullable<StatusAnswer['pendingToken']>): string {
  return (
    `of cluster ${cluster}: no member has answered; join again with the same token (meshctl join --token-file <file>), ` +
    'or discard it (meshctl leave)'
  )
}

/**
 * What other clusters may reach here, for the line Reach: "ready endpoints of exported services, for the clusters east,
 * edge". undefined where all clusters reach all pods, which is the default and needs no line.
 */
function reachText({ what, clusters }: NonNullable<StatusAnswer['reach']>): string | undefined {
  if (what === 'pods' && clusters.length === 0) return undefined
  const whom = clusters.length === 0 ? 'all clusters' : `the clusters ${clusters.join(', ')}`
  return `${what === 'pods' ? 'all pods' : 'ready endpoints of exported services'}, for ${whom}`
}

/** The lines about the three parts of the agent: data plane, DNS and source of services. */
function works(status: StatusAnswer, context: Context): Field[] {
  const { dataplane, dns, source } = status
  const facts = [dataplane.device, dataplane.loadBalancer].filter((fact) => fact !== undefined).join(', ')
  return [
    ['Data plane', dataPlane(status, facts, context)],
    ['DNS', onOff(dns.state, dns.address ?? '', dns.reason, context)],
    [
      source.kind === 'folder' ? 'Manifests' : 'Kubernetes API',
      `${source.path}: ${count(source.services, 'service')}, ${count(source.endpointSlices, 'endpoint slice')}` +
        (source.problems.length === 0
          ? ''
          : `, ${context.style.paint('red', count(source.problems.length, 'problem'))}`)
    ]
  ]
}

/** The line about the data plane. It is red while the last pass over the host failed, because routes may be missing. */
function dataPlane({ dataplane, lastPass }: StatusAnswer, facts: string, context: Context): string {
  if (dataplane.state === 'off' || lastPass?.error === undefined)
    return onOff(dataplane.state, facts, dataplane.reason, context)
  return `${context.style.paint('red', 'on, but the last pass failed')}: ${facts}`
}

// Reasons of `dropped` in the answer, in words.
const DROPPED: Readonly<Record<string, string>> = {
  service: 'from other machines to service addresses',
  remote: 'with the forged source of another cluster',
  local: 'with the forged source of this cluster'
}

/** The lines about the mesh: members, the last pass, and what was refused and dropped by reason. */
function activity(status: StatusAnswer, context: Context): Field[] {
  const refused = Object.entries(status.refused).filter(([, n]) => n > 0)
  const dropped = Object.entries(status.dropped ?? {}).filter(([, n]) => n > 0)
  return [
    [
      'Mesh members',
      `${count(status.clusters, 'cluster')}, ${count(status.connections, 'control connection')}`
    ],
    ...field('Relays', status.relays === undefined ? undefined : relaysText(status.relays)),
    ...field('Last pass', status.lastPass === undefined ? undefined : lastPass(status.lastPass, context)),
    ...field('Refused', refused.map(([reason, n]) => `${reason}: ${n}`).join(', ')),
    ...field(
      'Dropped',
      dropped.map(([reason, n]) => `${count(n, 'packet')} ${DROPPED[reason] ?? reason}`).join(', ')
    )
  ]
}

/** "the tunnels between west and edge (2), east and edge (1)". */
function relaysText(relays: NonNullable<StatusAnswer['relays']>): string {
  const pairs = Map.groupBy(relays, ({ clusters }) => clusters.toSorted().join(' and '))
  const named = [...pairs].map(([clusters, { length }]) => `${clusters} (${length})`)
  return named.length === 0 ? 'none now' : `the tunnels between ${named.join(', ')}`
}

/** "2026-11-23 04:12:11 UTC (3d12h ago): 4 operations in 12 ms", and the error of a pass that failed. */
function lastPass(pass: NonNullable<StatusAnswer['lastPass']>, context: Context): string {
  const age = (Date.now() - Date.parse(pass.at)) / 1000
  const ago = Number.isNaN(age) ? '' : ` (${formatDuration(age)} ago)`
  const result = `${formatTime(pass.at)}${ago}: ${count(pass.ops, 'operation')} in ${pass.ms} ms`
  return pass.error === undefined
    ? result
    : `${result}, ${context.style.paint('red', `failed: ${pass.error}`)}`
}

/** "on: facts" or "off: reason"; both when both are known. */
function onOff(state: 'on' | 'off', facts: string, reason: string | undefined, context: Context): string {
  const painted = context.style.paint(state === 'on' ? 'green' : 'yellow', state)
  const detail = [facts, reason ?? ''].filter((part) => part !== '').join('; ')
  return detail === '' ? painted : `${painted}: ${detail}`
}

/** The faults but those of manifests, which the sections of manifests have with their fixes. */
function withoutListed({ health, source }: StatusAnswer): HealthReport | undefined {
  if (health === undefined) return undefined
  const listed = new Set(
    source.problems.map(({ file, where }) => (where === undefined ? file : `${file}, ${where}`))
  )
  const { MANIFESTS: _, ...more } = health.more
  return {
    ...health,
    faults: health.faults.filter(({ code, subject }) => code !== 'MANIFESTS' || !listed.has(subject)),
    more: source.problems.length === 0 ? health.more : more
  }
}

/** Two sections: manifests that are ignored because of an error, then manifests that are used in spite of a warning. */
function problems(rows: readonly Problem[], context: Context): string[] {
  const lost = rows.filter(({ level }) => level !== 'warning')
  const doubtful = rows.filter(({ level }) => level === 'warning')
  return [
    ...(lost.length === 0 ? [] : [list(context.style.paint('red', 'Manifests that are ignored'), lost)]),
    ...(doubtful.length === 0
      ? []
      : [list(context.style.paint('yellow', 'Manifests that are used in spite of a warning'), doubtful)])
  ]
}

/** Returns a section with two lines per problem: file, place and message, then the fix if there is one. */
function list(title: string, rows: readonly Problem[]): string {
  const text = rows.flatMap(({ file, where, message, fix }) => [
    `  - ${[file, ...problemPlace(where, message)].join(', ')}: ${message}`,
    ...(fix === undefined ? [] : [`    fix: ${fix}`])
  ])
  return [title, ...text].join('\n')
}

/** A line, or none when there is no text. */
function field(label: string, text: string | undefined): Field[] {
  return text === undefined || text === '' ? [] : [[label, text]]
}
