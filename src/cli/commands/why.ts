// `meshctl why` follows a connection to a service or a pod of the mesh, stop by stop, and says at which stop it ends and
// what to do. The request is GET /v1/why.
import type { Command } from 'commander'
import type { StopRow, WhyAnswer } from '../../api/diagnosis-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, endWith, print, type Context, type Rendered } from '../meshd/context.ts'
import { EXIT } from '../output/exit-codes.ts'
import type { Colour } from '../output/style.ts'
import { formatTable } from '../output/table.ts'

interface Options {
  readonly from?: string
  readonly connect: boolean
}

// The upstream servers, the rules, the kernel and a connection take some seconds each where they do not answer.
const TIMEOUT_MS = 30_000

/** Adds the command `why`. Exit code 1 when the connection does not work. Errors of meshd: NOT_JOINED, BAD_ARGUMENT. */
export function addWhy(program: Command): void {
  const command = program
    .command('why')
    .summary('why a connection to a service or a pod works, or at which stop it ends')
    .description(
      'Follows a connection from this host, or from one of its pods: the name, the service and its endpoints, the ' +
        'load balancer, the tunnel, the route. At last it asks the kernel for its route and tries a TCP connection, ' +
        'on which it sends nothing.'
    )
    .argument('<target>', 'name or address, with a port where it matters: name:80, 10.102.0.10:53/udp')
    .option('--from <ip>', 'address of the pod that connects (default: this host)')
    .option('--no-connect', 'try no TCP connection')
    .action(async (target: string, { from, connect }: Options) => {
      const context = contextOf(command, { hasTable: true })
      const answer = await context.client.request(ENDPOINTS.why, {
        send: { target, connect: connect ? 'yes' : 'no', ...(from === undefined ? {} : { from }) },
        field: 'verdict',
        doing: `following a connection to ${target}`,
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) => render(clean, context))
      if (answer.verdict === 'fails') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['A service by its name', 'meshctl why web.shop.svc.cluster.east:80'],
      ['The same, as a pod of this cluster', 'meshctl why web.shop.svc.cluster.east:80 --from 10.1.0.7'],
      ['A service of any cluster that has it', 'meshctl why web.shop.svc.cluster.all'],
      ['A UDP port of a service address', 'meshctl why 10.102.0.10:53/udp'],
      ['A pod of another cluster', 'meshctl why 10.2.0.9:8080'],
      ['What a program has in its settings', 'meshctl why http://web.shop.svc.cluster.east/health']
    ],
    'Exit codes: 0 when the connection works, in part or whole, or is not of the mesh; 1 when it ends at a stop.'
  )
}

const COLOURS: Readonly<Record<StopRow['state'], Colour | undefined>> = {
  ok: 'green',
  note: 'yellow',
  fault: 'red'
}

/** The stops before the ways part, then each way below its address. With -o name only the stops that are faults. */
function render(answer: WhyAnswer, context: Context): Rendered {
  const several = answer.ways.length > 1
  const sections = [
    { title: undefined, stops: [...answer.stops, ...(several ? [] : (answer.ways[0]?.stops ?? []))] },
    ...(several ? answer.ways.map(({ address, stops }) => ({ title: address, stops })) : [])
  ].filter(({ stops }) => stops.length > 0)
  const rows = sections.flatMap(({ stops }) => stops)
  if (context.format === 'name')
    return { body: rows.flatMap(({ state, stop }) => (state === 'fault' ? [stop] : [])).join('\n') }
  const tables = sections.map(({ title, stops }, index) => {
    const table = stopTable(stops, { ...context, headers: context.headers && index === 0 })
    return title === undefined ? table : `${title}\n${table}`
  })
  const fix = rows.find(({ state }) => state === 'fault')?.fix
  const lines = [headline(answer, rows, context), ...(fix === undefined ? [] : [`fix: ${fix}`])]
  return { body: [...lines, ...tables].join('\n') }
}

function headline({ verdict, ways }: WhyAnswer, rows: readonly StopRow[], { style }: Context): string {
  const ended = rows.find(({ state }) => state === 'fault')
  const at = ended === undefined ? '' : `: ${ended.text}`
  switch (verdict) {
    case 'works':
      // Without a port, and for UDP, no connection shows whether a program answers at the other end.
      return rows.some(({ stop, state }) => stop === 'connection' && state === 'ok')
        ? style.paint('green', 'It works')
        : style.paint('green', 'No fault was found on the way, and no connection was tried')
    case 'partly':
      return style.paint('yellow', `It works to some of ${ways.length} addresses${at}`)
    case 'outside':
      return style.paint('yellow', 'It is not of the mesh, which has no part in this connection')
    case 'fails':
      return style.paint('red', `It ends at the stop ${ended?.stop ?? '-'}${at}`)
    default:
      return verdict satisfies never
  }
}

function stopTable(stops: readonly StopRow[], context: Context): string {
  return formatTable<StopRow>(
    stops,
    [
      { title: 'STOP', value: ({ stop }) => stop },
      { title: 'STATE', value: ({ state }) => state, colour: ({ state }) => COLOURS[state] },
      {
        title: 'FOUND',
        fold: 1,
        value: ({ text, fix }) => (fix === undefined ? text : `${text}; fix: ${fix}`)
      }
    ],
    context
  )
}
