// `meshctl status` shows this agent on one page, with its faults and the fix of each.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Problem, StatusAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, isData, type Context, type Rendered } from '../meshd/context.ts'
import { CliError } from '../output/errors.ts'
import { faultList, healthLine } from '../output/health.ts'
import { showProgress } from '../output/progress.ts'
import type { Colour } from '../output/style.ts'
import { formatFields } from '../output/table.ts'
import { count, formatDuration, formatTime } from '../output/units.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

interface Options extends WatchOption {
  readonly wait?: boolean
}

const WAIT_SECONDS = 120
const WAIT_LOOK_MS = 300

export function addStatus(program: Command): void {
  const command = program
    .command('status')
    .summary('this agent on one page, with warnings and manifest problems')
    .description(
      'Shows what this agent is, what works and what does not, and the fix. Exit code 0 says that meshd answered, ' +
        'not that all is well: look at .health and .source.problems of --json for that, or use --wait.'
    )
    .option(
      '--wait',
      `wait until this agent is in a mesh without errors (at most --timeout, else ${WAIT_SECONDS} s)`
    )
    .action(async (options: Options) => {
      const context = contextOf(command)
      if (options.wait === true) await waitUntilWell(context)
      await showView(context, options, {
        fetch: (signal) => readStatus(context, signal),
        render: (status) => renderStatus(status, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Is all well?', 'meshctl status'],
    [
      'Wait until this agent is in a mesh and has no fault but warnings',
      'meshctl status --wait --timeout 2m'
    ],
    [
      'The worst fault as one line, for a script',
      "meshctl status --json | jq -r '.health.faults[0].message // empty'"
    ],
    ['Fail a script when a manifest does not count', "meshctl status --json | jq -e '.source.problems == []'"]
  ])
}

/** Errors: CliError TIMEOUT, with what was wrong at the end; AGENT_UNREACHABLE when meshd does not answer until then. */
async function waitUntilWell(context: Context): Promise<void> {
  const waitMs = context.timeoutMs ?? WAIT_SECONDS * 1000
  const deadlineMs = performance.now() + waitMs
  const done = isData(context.format) ? () => undefined : showProgress('waiting until all is well', waitMs)
  try {
    for (;;) {
      const left = deadlineMs - performance.now()
      const answer = await readStatus(context, AbortSignal.timeout(Math.max(1, Math.ceil(left)))).catch(
        (error: Error) => error
      )
      const wrong = whatIsWrong(answer)
      if (wrong === undefined) return
      if (performance.now() + WAIT_LOOK_MS >= deadlineMs) {
        if (answer instanceof CliError && answer.code !== 'INTERRUPTED') throw answer
        throw new CliError(
          'TIMEOUT',
          `not well after ${formatDuration(waitMs / 1000)}: ${wrong}`,
          '`meshctl status` shows every fault with its fix; wait longer with --timeout'
        )
      }
      await sleep(WAIT_LOOK_MS)
    }
  } finally {
    done()
  }
}

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
    ...faultList(status.health, context),
    ...problems(status.source.problems, context),
    ...(status.state === 'unjoined' ? [NEXT_STEPS] : [])
  ]
  return { body: sections.join('\n\n') }
}

type Field = readonly [label: string, text: string]

const STATES: Readonly<Record<StatusAnswer['state'], readonly [Colour, string]>> = {
  unjoined: ['yellow', 'in no mesh yet'],
  joining: ['yellow', 'joining'],
  running: ['green', 'running']
}

const NEXT_STEPS = `Next, one of
  meshctl init --cluster <name> --pod-cidr <prefix> --service-cidr <prefix>
      starts a new mesh here
  meshctl join --token-file <file>
      enters one, with a token from \`meshctl invite\` of a member`

function identity(status: StatusAnswer, context: Context): Field[] {
  const [colour, text] = STATES[status.state]
  const state = `${context.style.paint(colour, text)}, up ${formatDuration(status.uptimeSeconds)}, meshd ${status.version}`
  return [
    ...field('Cluster', status.cluster),
    ['State', state],
    ...field('Mesh', status.meshId),
    ...field('Peer ID', status.peerId),
    ...field('WireGuard key', status.wireguardKey),
    ...field('Pods', status.podCidrs.join(', ')),
    ...field('Services', status.serviceCidrs.join(', '))
  ]
}

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

/** Red while the last pass over the host failed. */
function dataPlane({ dataplane, lastPass }: StatusAnswer, facts: string, context: Context): string {
  if (dataplane.state === 'off' || lastPass?.error === undefined)
    return onOff(dataplane.state, facts, dataplane.reason, context)
  return `${context.style.paint('red', 'on, but the last pass failed')}: ${facts}`
}

function activity(status: StatusAnswer, context: Context): Field[] {
  const refused = Object.entries(status.refused).filter(([, n]) => n > 0)
  return [
    [
      'Mesh members',
      `${count(status.clusters, 'cluster')}, ${count(status.connections, 'control connection')}`
    ],
    ...field('Last pass', status.lastPass === undefined ? undefined : lastPass(status.lastPass, context)),
    ...field('Refused', refused.map(([reason, n]) => `${reason}: ${n}`).join(', '))
  ]
}

function lastPass(pass: NonNullable<StatusAnswer['lastPass']>, context: Context): string {
  const age = (Date.now() - Date.parse(pass.at)) / 1000
  const ago = Number.isNaN(age) ? '' : ` (${formatDuration(age)} ago)`
  const result = `${formatTime(pass.at)}${ago}: ${count(pass.ops, 'operation')} in ${pass.ms} ms`
  return pass.error === undefined
    ? result
    : `${result}, ${context.style.paint('red', `failed: ${pass.error}`)}`
}

function onOff(state: 'on' | 'off', facts: string, reason: string | undefined, context: Context): string {
  const painted = context.style.paint(state === 'on' ? 'green' : 'yellow', state)
  const detail = [facts, reason ?? ''].filter((part) => part !== '').join('; ')
  return detail === '' ? painted : `${painted}: ${detail}`
}

function problems(rows: readonly Problem[], context: Context): string[] {
  const lost = rows.filter(({ level }) => level !== 'warning')
  const doubtful = rows.filter(({ level }) => level === 'warning')
  return [
    ...(lost.length === 0 ? [] : [list(context.style.paint('red', 'Manifests that do not count'), lost)]),
    ...(doubtful.length === 0
      ? []
      : [list(context.style.paint('yellow', 'Manifests that count, but need a look'), doubtful)])
  ]
}

/** Leaves out the field at the end of `where` when the message begins with the same field. */
function placeOf(where: string | undefined, message: string): readonly string[] {
  if (where === undefined) return []
  const [, before, field] = /^(.*): ([^ :]+)$/.exec(where) ?? []
  return [before !== undefined && message.startsWith(`${field} `) ? before : where]
}

function list(title: string, rows: readonly Problem[]): string {
  const text = rows.flatMap(({ file, where, message, fix }) => [
    `  - ${[file, ...placeOf(where, message)].join(', ')}: ${message}`,
    ...(fix === undefined ? [] : [`    fix: ${fix}`])
  ])
  return [title, ...text].join('\n')
}

function field(label: string, text: string | undefined): Field[] {
  return text === undefined || text === '' ? [] : [[label, text]]
}
