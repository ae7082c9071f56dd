// `meshctl ping` sends packets through the tunnel to each gateway of a cluster and prints path, loss and round trips. meshd
// sends them, from its tunnel address, so they take the way of the pods' packets. The request is GET /v1/ping.
import { Option, type Command } from 'commander'
import type { PingAnswer, PingRow } from '../../api/diagnosis-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { parseClusterName, quote } from '../meshd/arguments.ts'
import { addExamples, contextOf, endWith, print, type Context, type Rendered } from '../meshd/context.ts'
import { badArgument } from '../output/errors.ts'
import { EXIT } from '../output/exit-codes.ts'
import { formatTable } from '../output/table.ts'
import { count } from '../output/units.ts'

interface Options {
  readonly count: number
  /** Seconds. */
  readonly interval: number
}

// The bounds of the schema (api/requests.ts), which is not loaded here.
const COUNT_MAX = 100
const INTERVAL_MS = { min: 50, max: 5000 } as const
// meshd waits 2 s for the last reply; the rest is for a busy host.
const GRACE_MS = 10_000

/** Adds the command `ping`. Exit code 1 when nothing came back. Errors of meshd: NOT_JOINED, UNKNOWN_CLUSTER, OWN_CLUSTER. */
export function addPing(program: Command): void {
  const command = program
    .command('ping')
    .summary('packets through the tunnel to a cluster: path, loss and round trips')
    .description(
      'Sends UDP packets through the tunnel to each gateway of a cluster, and prints the path, the loss and the round ' +
        'trips in milliseconds. meshd sends them; the meshd of the gateway answers. Where the tunnel is not up, it says why.'
    )
    .argument('<cluster>', 'name of another cluster')
    .addOption(
      new Option('-c, --count <number>', `packets to each gateway, 1 to ${COUNT_MAX}`)
        .argParser(parseCount)
        .default(5)
    )
    .addOption(
      new Option('-i, --interval <seconds>', 'seconds between two packets, 0.05 to 5')
        .argParser(parseGap)
        .default(0.2)
    )
    .action(async (cluster: string, { count: packets, interval }: Options) => {
      const context = contextOf(command, { hasTable: true })
      const intervalMs = Math.round(interval * 1000)
      const answer = await context.client.request(ENDPOINTS.ping, {
        send: { cluster: parseClusterName('<cluster>', cluster), count: packets, intervalMs },
        field: 'gateways',
        doing: `sending ${count(packets, 'packet')} to ${cluster}`,
        timeoutMs: (packets - 1) * intervalMs + GRACE_MS
      })
      print(context, answer, (clean) => render(cluster, clean, context))
      if (answer.verdict === 'silent') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['Five packets to each gateway of east', 'meshctl ping east'],
      ['A longer look at the loss', 'meshctl ping east -c 100 -i 0.05'],
      ['For a script', 'meshctl ping east -o json | jq .gateways[0].rtt.avg']
    ],
    'Exit codes: 0 when a packet came back, 1 when none did. The times are those of the two meshd, so a busy host makes them\n' +
      'longer: MIN is closest to the path.'
  )
}

function parseCount(text: string): number {
  const packets = Number(text)
  if (/^\d{1,3}$/.test(text) && packets >= 1 && packets <= COUNT_MAX) return packets
  throw badArgument(
    '--count',
    `${quote(text)} is not a number from 1 to ${COUNT_MAX}`,
    'use a number, as in -c 20'
  )
}

function parseGap(text: string): number {
  const ms = Math.round(Number(text) * 1000)
  if (/^\d(\.\d{1,3})?$/.test(text) && ms >= INTERVAL_MS.min && ms <= INTERVAL_MS.max) return ms / 1000
  throw badArgument(
    '--interval',
    `${quote(text)} is not a number of seconds from 0.05 to 5`,
    'use a number, as in -i 0.5'
  )
}

/** The headline, the lines of tunnels that are not up, and a row for each gateway. With -o name those that answered. */
function render(cluster: string, { verdict, gateways }: PingAnswer, context: Context): Rendered {
  if (context.format === 'name')
    return { body: gateways.flatMap(({ node, received }) => (received > 0 ? [node] : [])).join('\n') }
  if (gateways.length === 0)
    return {
      body: context.style.paint('red', `Nothing was sent: cluster ${cluster} announces no gateway`),
      note: `start meshd on a node of cluster ${cluster}; \`meshctl peers\` shows its agents`
    }
  const ms = (value: number | undefined): string =>
    value === undefined ? '' : value.toFixed(value < 10 ? 2 : 1)
  const table = formatTable<PingRow>(
    gateways,
    [
      { title: 'GATEWAY', value: ({ node }) => node },
      {
        title: 'TUNNEL',
        value: ({ tunnel }) => tunnel,
        colour: ({ tunnel }) => (tunnel === 'up' ? 'green' : tunnel === 'down' ? 'red' : 'yellow')
      },
      {
        title: 'PATH',
        value: ({ path, endpoint }) => (endpoint === undefined ? path : `${path} ${endpoint}`)
      },
      { title: 'SENT', value: ({ sent }) => String(sent) },
      { title: 'RECEIVED', value: ({ received }) => String(received) },
      { title: 'LOSS', value: ({ lossPercent }) => `${lossPercent}%` },
      { title: 'MIN', value: ({ rtt }) => ms(rtt?.min) },
      { title: 'AVG', value: ({ rtt }) => ms(rtt?.avg) },
      { title: 'MAX', value: ({ rtt }) => ms(rtt?.max) },
      { title: 'MDEV', value: ({ rtt }) => ms(rtt?.mdev) },
      { title: 'ADDRESS', value: ({ address = '' }) => address, shown: context.format === 'wide' },
      {
        title: 'ROUND TRIPS',
        value: ({ rttsMs }) => rttsMs.map((rtt) => ms(rtt ?? undefined) || 'lost').join(' '),
        shown: context.format === 'wide',
        fold: 1
      }
    ],
    context
  )
  return { body: [headline(cluster, verdict, gateways, context), ...reasons(gateways), table].join('\n') }
}

function headline(
  cluster: string,
  verdict: PingAnswer['verdict'],
  gateways: readonly PingRow[],
  { style }: Context
): string {
  const sent = gateways.reduce((sum, row) => sum + row.sent, 0)
  const came = gateways.reduce((sum, row) => sum + row.received + row.refused, 0)
  switch (verdict) {
    case 'answered':
      return style.paint(
        'green',
        sent === 1
          ? `The packet to ${cluster} came back`
          : `All of ${count(sent, 'packet')} to ${cluster} came back`
      )
    case 'lossy':
      return style.paint('yellow', `${came} of ${count(sent, 'packet')} to ${cluster} came back`)
    case 'silent':
      return style.paint(
        'red',
        sent === 0
          ? `Nothing was sent to ${cluster}`
          : `None of ${count(sent, 'packet')} to ${cluster} came back`
      )
    default:
      return verdict satisfies never
  }
}

/** One line for each gateway with a reason: what is wrong there, and the fix; and one for a path that is not the best. */
function reasons(gateways: readonly PingRow[]): readonly string[] {
  return gateways.flatMap(({ node, tunnel, reason, fix, path, pathReason }) => {
    const what = tunnel === 'up' ? node : `the tunnel to ${node} is ${tunnel}`
    return [
      ...(reason === undefined ? [] : [`${what}: ${reason}${fix === undefined ? '' : `; fix: ${fix}`}`]),
      ...(pathReason === undefined ? [] : [`${node} is reached over ${path}: ${pathReason}`])
    ]
  })
}
