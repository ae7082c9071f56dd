// `meshctl status`: this agent on one page, with what is wrong and how to put it right.
import type { Command } from 'commander'
import type { Problem, StatusAnswer } from '../app/api.ts'
import { addExamples, contextOf, type Context, type Rendered } from './context.ts'
import type { Colour } from './style.ts'
import { formatFields } from './table.ts'
import { count, formatDuration, formatTime } from './units.ts'
import { addWatch, showView, type WatchOption } from './watch.ts'

export function addStatus(program: Command): void {
  const command = program
    .command('status')
    .summary('this agent on one page, with warnings and manifest problems')
    .description(
      'Shows what this agent is, what works and what does not, and the fix. Exit code 0 says that meshd answered, ' +
        'not that all is well: look at .warnings and .source.problems of --json for that.'
    )
    .action(async (options: WatchOption) => {
      const context = contextOf(command)
      await showView(context, options, {
        fetch: (signal) =>
          context.client.request<StatusAnswer>({
            path: '/v1/status',
            field: 'state',
            doing: 'reading the status',
            ...(signal === undefined ? {} : { signal })
          }),
        render: (status) => renderStatus(status, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Is all well?', 'meshctl status'],
    ['Wait for a join to finish', 'meshctl status --watch 1'],
    ['Fail a script when a manifest does not count', "meshctl status --json | jq -e '.source.problems == []'"]
  ])
}

function renderStatus(status: StatusAnswer, context: Context): Rendered {
  const sections = [
    formatFields(
      status.state === 'unjoined'
        ? [...identity(status, context), ...works(status, context)]
        : [...identity(status, context), ...works(status, context), ...activity(status, context)]
    ),
    ...(status.warnings.length === 0 ? [] : [warnings(status.warnings, context)]),
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
  meshctl init --cluster <name> --pod-cidr <prefix> --service-cidr <prefix>    starts a new mesh here
  meshctl join --token-file <file>                                             enters one, with a token from
                                                                               \`meshctl invite\` of a member`

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
    ['Data plane', onOff(dataplane.state, facts, dataplane.reason, context)],
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

function warnings(lines: readonly string[], context: Context): string {
  return [context.style.paint('yellow', 'Warnings'), ...lines.map((line) => `  - ${line}`)].join('\n')
}

function problems(rows: readonly Problem[], context: Context): string[] {
  const lost = rows.filter(({ level }) => level !== 'warning')
  const doubtful = rows.filter(({ level }) => level === 'warning')
  return [
    ...(lost.length === 0 ? [] : [list(context.style.paint('red', 'Manifests that do not count'), lost)]),
    ...(doubtful.length === 0
      ? []
      : [list(context.style.paint('yellow', 'Manifests that count, but hardly as meant'), doubtful)])
  ]
}

function list(title: string, rows: readonly Problem[]): string {
  const text = rows.flatMap(({ file, where, message, fix }) => [
    `  - ${file}${where === undefined ? '' : `, ${where}`}: ${message}`,
    ...(fix === undefined ? [] : [`    fix: ${fix}`])
  ])
  return [title, ...text].join('\n')
}

function field(label: string, text: string | undefined): Field[] {
  return text === undefined || text === '' ? [] : [[label, text]]
}
