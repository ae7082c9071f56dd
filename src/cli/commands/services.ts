// `meshctl services` lists the services of all clusters, with the names and addresses by which pods reach them. The
// rows come from GET /v1/services. A mesh may have 10,000 services, so meshctl filters and prints them in time linear
// in the rows.
import type { Command } from 'commander'
import type { ServiceRow, ServicesAnswer } from '../../api/answers.ts'
import type { BalancedRow, UnbalancedRow, UnusedPolicyRow } from '../../api/balanced-row.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, endWith, type Context, type Rendered } from '../meshd/context.ts'
import { EXIT } from '../output/exit-codes.ts'
import { ofCluster } from '../meshd/arguments.ts'
import { formatTable } from '../output/table.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

/** The options of the command line. Without one, all rows are shown. */
interface Options extends WatchOption {
  readonly cluster?: string
  readonly namespace?: string
}

/**
 * Adds the command `services`. A name that no row has ends with exit code 1, in each format. Errors of meshd: NOT_JOINED
 * (exit code 4).
 */
export function addServices(program: Command): void {
  const command = program
    .command('services')
    .argument('[name]', 'only this service, as in web or shop/web, and how its policy balances it')
    .summary('the services of all clusters, with their names and addresses')
    .description(
      'Lists the services of every cluster as this agent knows them. READY counts the ready endpoints, out of ' +
        'all. While none is ready, those that terminate but still serve are used as fallback. A pod of any cluster reaches the service by DNS NAME or CLUSTER IP. ' +
        'With a name, meshctl also shows how the annotation rhizome.io/balance divides the connections to its name in cluster.all, ' +
        'and, where the Service asks for endpoints of the same zone, which ones this host uses.'
    )
    .option('--cluster <name>', 'only services of this cluster')
    .option('-n, --namespace <name>', 'only services of this namespace')
    .action(async (name: string | undefined, options: Options) => {
      const context = contextOf(command, { hasTable: true })
      await showView(context, options, {
        fetch: async (signal) => {
          const all = await context.client.request(ENDPOINTS.services, {
            field: 'services',
            doing: 'reading the services',
            ...(signal === undefined ? {} : { signal })
          })
          const answer = filtered(name, options, all)
          // With --watch the service may still come.
          if (name !== undefined && answer.services.length === 0 && options.watch === undefined)
            endWith(EXIT.failed)
          return answer
        },
        render: (answer) => {
          const rendered = renderServices(answer, filtersOf(name, options), context)
          if (name === undefined || rendered.body === undefined || context.format === 'name') return rendered
          return {
            ...rendered,
            body: [rendered.body, ...renderNear(answer, context), renderPolicies(answer, context)].join(
              '\n\n'
            )
          }
        }
      })
    })
  addWatch(command)
  addExamples(
    command,
    [
      ['Everything that can be reached', 'meshctl services'],
      ['What the namespace shop of cluster east offers', 'meshctl services --cluster east -n shop'],
      ['Which clusters answer for web, and why', 'meshctl services shop/web'],
      ['Call a service from any pod', 'curl http://web.shop.svc.cluster.east']
    ],
    'Exit codes: 0 also when no service is listed; 1 when a name was given and no service has it.'
  )
}

/**
 * The answer with the services that all filters fit, in each format: with -o json, too, a script gets what a person sees. A
 * name without a namespace stands for those of all namespaces. The policies of a name are those of all clusters.
 */
function filtered(
  name: string | undefined,
  { cluster, namespace }: Options,
  answer: ServicesAnswer
): ServicesAnswer {
  const isMeant = (row: { readonly namespace: string; readonly name: string }): boolean =>
    (name === undefined || name === row.name || name === `${row.namespace}/${row.name}`) &&
    (namespace === undefined || namespace === row.namespace)
  const balanced = answer.balanced?.filter(isMeant)
  const unbalanced = answer.unbalanced?.filter(isMeant)
  return {
    ...answer,
    services: answer.services.filter(isMeant).filter(ofCluster(cluster)),
    ...(balanced !== undefined && { balanced }),
    ...(unbalanced !== undefined && { unbalanced })
  }
}

/** The filters in words, for the note that nothing fits: "named web", "in namespace shop", "of cluster east". */
function filtersOf(name: string | undefined, { cluster, namespace }: Options): string[] {
  return [
    ...(name === undefined ? [] : [`named ${name}`]),
    ...(namespace === undefined ? [] : [`in namespace ${namespace}`]),
    ...(cluster === undefined ? [] : [`of cluster ${cluster}`])
  ]
}

/**
 * For each service that asks for near endpoints: the zone of this host, which endpoints it uses and why, and a table of the ready
 * endpoints of each zone. Services of other clusters have none: their zones count by a policy, whose table says so.
 */
function renderNear({ services, zone }: ServicesAnswer, context: Context): readonly string[] {
  return services.flatMap(({ near, dnsName }) => {
    if (near === undefined) return []
    const which = near.nearness === 'all' ? 'all ready endpoints' : 'the ready endpoints'
    const host = zone === undefined ? 'This host has no zone' : `This host is in zone ${zone}`
    const table = formatTable(
      near.zones,
      [
        { title: 'ZONE', value: (row) => (row.zone === '' ? '(none)' : row.zone) },
        { title: 'READY', value: ({ ready }) => String(ready) },
        { title: 'USED', value: ({ used }) => String(used) }
      ],
      context
    )
    const why = near.nearness === 'all' ? `, because ${near.reason}` : ` ${near.reason}`
    return [`${host}. For ${dnsName} it uses ${which}${why}.\n${table}`]
  })
}

/** For each service with policies, which one is in force and what it chooses, or why none is. */
function renderPolicies({ balanced = [], unbalanced = [] }: ServicesAnswer, context: Context): string {
  if (balanced.length + unbalanced.length === 0)
    return 'No annotation rhizome.io/balance: the name in cluster.all has the addresses of all clusters.'
  return [...balanced.map((row) => renderBalanced(row, context)), ...unbalanced.map(renderUnbalanced)].join(
    '\n\n'
  )
}

/**
 * The policies of a service of which none is in force. That is no fault of this agent: the cluster that wrote a policy shows its
 * faults in `meshctl status`.
 */
function renderUnbalanced({ namespace, name, policies }: UnbalancedRow): string {
  return [
    `No policy of ${namespace}/${name} is in force here: its name in cluster.all has the addresses of all clusters.`,
    ...policies.map(unusedText)
  ].join('\n')
}

/** A policy that is not in force, with the cluster that wrote it, in one line. */
function unusedText({ cluster, policy, reason }: UnusedPolicyRow): string {
  return `The policy of ${cluster} (${policy}) is not in force: ${reason}`
}

/** Name, address and policy of a balanced service, and a table of the clusters. */
function renderBalanced(row: BalancedRow, context: Context): string {
  return [
    `${row.dnsName} is ${row.address} here. Policy of ${row.from}: ${row.policy}`,
    formatTable(
      row.clusters,
      [
        { title: 'CLUSTER', value: ({ cluster }) => cluster },
        { title: 'SHARE', value: ({ percent }) => `${percent}%` },
        { title: 'ENDPOINTS', value: ({ endpoints }) => String(endpoints) },
        { title: 'WHY', value: ({ reason }) => reason, fold: 0 }
      ],
      context
    ),
    ...(row.unknown ?? []).map(
      (cluster) =>
        `The policy names ${cluster}, which is no cluster of this mesh: \`meshctl peers\` lists them`
    ),
    ...(row.conflict === undefined ? [] : [`Conflict: ${row.conflict}`]),
    ...(row.overruled ?? []).map(unusedText)
  ].join('\n')
}

/** The table of the services, or a note that says which filter fits none. */
function renderServices(
  { services: rows }: ServicesAnswer,
  filters: readonly string[],
  context: Context
): Rendered {
  if (rows.length === 0)
    return {
      note:
        filters.length === 0
          ? 'No services yet. `meshctl status` shows the source of services and its problems'
          : `There is no service ${filters.join(' ')}. To list all services: meshctl services`
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
