// `meshctl services` lists the services of all clusters, with the names and addresses by which pods reach them. The
// rows come from GET /v1/services. A mesh may have 10,000 services, so meshctl filters and prints them in time linear
// in the rows.
import type { Command } from 'commander'
import type { ServiceRow, ServicesAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, type Context, type Rendered } from '../meshd/context.ts'
import { formatTable } from '../output/table.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

/** The options of the command line. Without one, all rows are shown. */
interface Options extends WatchOption {
  readonly cluster?: string
  readonly namespace?: string
}

/** Adds the command `services`. Errors of meshd: NOT_JOINED (exit code 4). */
export function addServices(program: Command): void {
  const command = program
    .command('services')
    .summary('the services of all clusters, with their names and addresses')
    .description(
      'Lists the services of every cluster as this agent knows them. READY counts the ready endpoints, out of ' +
        'all. While none is ready, those that terminate but still serve are used as fallback. A pod of any cluster reaches the service by DNS NAME or CLUSTER IP.'
    )
    .option('--cluster <name>', 'only services of this cluster')
    .option('-n, --namespace <name>', 'only services of this namespace')
    .action(async (options: Options) => {
      const context = contextOf(command, { hasTable: true })
      await showView(context, options, {
        fetch: (signal) =>
          context.client.request(ENDPOINTS.services, {
            field: 'services',
            doing: 'reading the services',
            ...(signal === undefined ? {} : { signal })
          }),
        render: (answer) => renderServices(answer, options, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Everything that can be reached', 'meshctl services'],
    ['What the namespace shop of cluster east offers', 'meshctl services --cluster east -n shop'],
    ['Call a service from any pod', 'curl http://web.shop.svc.cluster.east']
  ])
}

/**
 * Both filters of `options` must fit a row. Without a row, the note says whether the mesh has none or the filters fit
 * none.
 */
function renderServices(answer: ServicesAnswer, options: Options, context: Context): Rendered {
  const rows = answer.services.filter(
    (row) =>
      (options.cluster === undefined || row.cluster === options.cluster) &&
      (options.namespace === undefined || row.namespace === options.namespace)
  )
  if (rows.length === 0) {
    return {
      note:
        answer.services.length === 0
          ? 'No services yet. `meshctl status` shows the source of services and its problems'
          : `No service of ${answer.services.length} matches the filters. To list all services: meshctl services`
    }
  }
  if (context.format === 'name') return { body: rows.map((row) => row.dnsName).join('\n') }
  const body = formatTable<ServiceRow>(
    rows,
    [
      { title: 'CLUSTER', value: (row) => row.cluster },
      { title: 'NAMESPACE', value: (row) => row.namespace },
      { title: 'NAME', value: (row) => row.name },
      { title: 'TYPE', value: (row) => row.type },
      { title: 'CLUSTER IP', value: addressesOf, fold: 2 },
      { title: 'PORTS', value: (row) => row.ports.map(portText).join(','), fold: 1 },
      {
        title: 'READY',
        value: (row) => (row.type === 'ExternalName' ? '' : readyText(row)),
        colour: (row) => (row.type === 'ExternalName' ? undefined : colourOf(row))
      },
      { title: 'DNS NAME', value: (row) => row.dnsName, fold: 0 }
    ],
    context
  )
  return { body }
}

/** Red: no endpoint takes traffic. Yellow: some do not. A service without endpoints is red, too. */
function colourOf(row: ServiceRow): 'red' | 'yellow' | undefined {
  if (row.ready + (row.fallback ?? 0) === 0) return 'red'
  return row.ready < row.endpoints ? 'yellow' : undefined
}

/** "2/3", or "0/3, 2 used as fallback" while endpoints that terminate get the traffic. */
function readyText({ ready, endpoints, fallback = 0 }: ServiceRow): string {
  return `${ready}/${endpoints}${fallback === 0 ? '' : `, ${fallback} used as fallback`}`
}

/** "http:80/TCP", or "80/TCP" when the port has no name. */
function portText({ name, port, protocol }: ServiceRow['ports'][number]): string {
  return `${name === '' ? '' : `${name}:`}${port}/${protocol}`
}

/** The addresses of a service; of the own cluster also those that others use, where they differ: "10.101.0.10 (mesh 10.192.0.10)". */
function addressesOf({ clusterIps, meshIps }: ServiceRow): string {
  const inMesh = meshIps === undefined ? '' : ` (mesh ${meshIps.join(',')})`
  return `${clusterIps.join(',')}${inMesh}`
}
