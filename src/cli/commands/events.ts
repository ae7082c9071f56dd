// `meshctl events` lists what this agent has refused from other agents, with the peer, its cluster and the reason, and
// what the agent did about it. The rows come from GET /v1/events; they begin with the start of the agent, which keeps them
// in memory only. They are what this agent has seen: a member that refuses this agent has the row on its own list.
import type { Command } from 'commander'
import type { EventRow, EventsAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { ofCluster } from '../meshd/arguments.ts'
import { addExamples, contextOf, type Context, type Rendered } from '../meshd/context.ts'
import type { Colour } from '../output/style.ts'
import { formatTable } from '../output/table.ts'
import { formatDuration } from '../output/units.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

/** The options of the command line. `cluster`: a name; it need not be the name of a member. */
interface Options extends WatchOption {
  readonly cluster?: string
}

/** Adds the command `events`. Errors of meshd: NOT_JOINED (exit code 4). */
export function addEvents(program: Command): void {
  const command = program
    .command('events')
    .summary('what was refused from which peer, and what was done about it')
    .description(
      'Lists events since the start of meshd, the oldest first. KIND is refused (a handshake, frame or record was not ' +
        'accepted), disconnected (the control connection ended), banned (more than 30 malformed or badly signed frames ' +
        'within a minute: no control connection for 10 s to 10 min), ban ended, or path (the tunnel goes over TCP, or over ' +
        'UDP again; REASON has the path). A ban touches neither tunnels nor records. COUNT is the number of equal events within a minute.'
    )
    .option('--cluster <name>', 'only events of this cluster')
    .action(async (options: Options) => {
      const context = contextOf(command, { hasTable: true })
      await showView(context, options, {
        fetch: async (signal) => {
          const answer = await context.client.request(ENDPOINTS.events, {
            field: 'events',
            doing: 'reading the events',
            ...(signal === undefined ? {} : { signal })
          })
          return { ...answer, events: answer.events.filter(ofCluster(options.cluster)) }
        },
        render: (answer) => renderEvents(answer, options.cluster, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['What has happened since the start of meshd', 'meshctl events'],
    ['Follow what is refused from cluster east', 'meshctl events --cluster east --watch'],
    [
      'PeerIds that were banned, for a script',
      `meshctl events --json | jq -r '.events[] | select(.kind == "banned").peerId'`
    ]
  ])
}

/**
 * `cluster`: only its events; undefined: all. The order is that of meshd, by the first of equal events, so that a view
 * that is watched only grows at its end.
 */
function renderEvents(answer: EventsAnswer, cluster: string | undefined, context: Context): Rendered {
  const rows = answer.events
  if (rows.length === 0) {
    return {
      note:
        cluster === undefined
          ? 'No events since the start of meshd'
          : `There are no events of cluster ${cluster}. To list all events: meshctl events`
    }
  }
  if (context.format === 'name') return { body: rows.map((row) => row.peerId).join('\n') }
  // AGE is that of the latest of COUNT equal events. CLUSTER is "-" for a peer that has shown no valid certificate.
  const body = formatTable<EventRow>(
    rows,
    [
      { title: 'AGE', value: (row) => ageOf(row.lastAt) },
      { title: 'KIND', value: (row) => row.kind, colour: (row) => COLOURS[row.kind] },
      { title: 'CLUSTER', value: (row) => row.cluster ?? '-' },
      { title: 'PEER', value: (row) => row.peerId, fold: 1 },
      { title: 'COUNT', value: (row) => `${row.count}` },
      { title: 'REASON', value: (row) => row.reason, fold: 0 }
    ],
    context
  )
  return { body }
}

/** The time since the latest of equal events. */
function ageOf(lastAt: string): string {
  return formatDuration(Math.max(0, (Date.now() - Date.parse(lastAt)) / 1000))
}

// Yellow: something was refused, and all else works. Red: a member is shut out for a while, which an operator should
// look at.
const COLOURS: Readonly<Record<EventRow['kind'], Colour>> = {
  refused: 'yellow',
  disconnected: 'dim',
  banned: 'red',
  'ban ended': 'green',
  path: 'dim'
}
