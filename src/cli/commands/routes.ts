// `meshctl routes` lists the prefixes of other clusters, whether this host routes them, and the reason if not. The rows
// come from GET /v1/routes and show what the agent has read or applied last; the examples of the help name the commands
// of iproute2 that show the kernel itself.
import type { Command } from 'commander'
import type { RouteRow, RoutesAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { ofCluster } from '../meshd/arguments.ts'
import { addExamples, contextOf, type Context, type Rendered } from '../meshd/context.ts'
import type { Colour } from '../output/style.ts'
import { formatTable } from '../output/table.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

/** The options of the command line. Without one, all rows are shown. */
interface Options extends WatchOption {
  readonly cluster?: string
}

/** Adds the command `routes`. Errors of meshd: NOT_JOINED (exit code 4). */
export function addRoutes(program: Command): void {
  const command = program
    .command('routes')
    .summary('the prefixes of all clusters, and how this host routes them')
    .description(
      'Lists pod prefixes (through the tunnel) and service prefixes (balanced on this host). STATE is installed, ' +
        'missing (the next pass adds it), withdrawn (its cluster is gone) or conflict (an older certificate owns it).'
    )
    .option('--cluster <name>', 'only prefixes of this cluster')
    .action(async (options: Options) => {
      const context = contextOf(command, { hasTable: true })
      await showView(context, options, {
        fetch: async (signal) => {
          const answer = await context.client.request(ENDPOINTS.routes, {
            field: 'routes',
            doing: 'reading the routes',
            ...(signal === undefined ? {} : { signal })
          })
          return { ...answer, routes: answer.routes.filter(ofCluster(options.cluster)) }
        },
        render: (answer) => renderRoutes(answer, options.cluster, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Every prefix', 'meshctl routes'],
    ['Compare with the kernel: pod prefixes', 'ip route show table 5142'],
    ['Compare with the kernel: service prefixes', 'ip route show table local proto 142']
  ])
}

/**
 * `cluster`: only its prefixes; undefined: all. The order is that of meshd: by cluster, then pods, services and
 * conflicts.
 */
function renderRoutes(answer: RoutesAnswer, cluster: string | undefined, context: Context): Rendered {
  const rows = answer.routes
  if (rows.length === 0) {
    return {
      note:
        cluster === undefined
          ? 'No routes: no other cluster is known yet (meshctl peers)'
          : `There are no routes of cluster ${cluster}. To list all routes: meshctl routes`
    }
  }
  if (context.format === 'name') return { body: rows.map((row) => row.destination).join('\n') }
  const body = formatTable<RouteRow>(
    rows,
    [
      { title: 'DESTINATION', value: (route) => route.destination },
      { title: 'KIND', value: (route) => route.kind },
      { title: 'CLUSTER', value: (route) => route.cluster },
      { title: 'VIA', value: (route) => route.via, fold: 1 },
      { title: 'STATE', value: (route) => route.state, colour: (route) => COLOURS[route.state] },
      {
        title: 'REASON',
        fold: 0,
        value: (route) => route.reason ?? '',
        shown: rows.some((route) => route.reason !== undefined)
      }
    ],
    context
  )
  return { body }
}

// Withdrawn is not red, because the fault is that of the tunnel, which `peers` shows.
const COLOURS: Readonly<Record<RouteRow['state'], Colour>> = {
  installed: 'green',
  missing: 'yellow',
  withdrawn: 'dim',
  conflict: 'red'
}
