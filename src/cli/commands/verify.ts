// `meshctl verify` tests the way to each other cluster as its pods use it: packets through the tunnel, then for some of its
// services the name, each stop of the way, and a TCP connection, on which nothing is sent. It asks meshd what `meshctl ping`
// and `meshctl why` ask, so it sets nothing up and leaves nothing behind.
import { Option, type Command } from 'commander'
import type { Answer, PeerRow, ServiceRow } from '../../api/answers.ts'
import type { PingAnswer, WhyAnswer } from '../../api/diagnosis-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { parseClusterName, quote } from '../meshd/arguments.ts'
import {
  addExamples,
  contextOf,
  endWith,
  isData,
  print,
  type Context,
  type Rendered
} from '../meshd/context.ts'
import { badArgument, CliError } from '../output/errors.ts'
import { EXIT } from '../output/exit-codes.ts'
import { showProgress } from '../output/progress.ts'
import { formatTable } from '../output/table.ts'
import { count } from '../output/units.ts'

interface Options {
  /** Services of each cluster. */
  readonly services: number
}

/** What `meshctl verify -o json` prints. */
interface VerifyAnswer extends Answer {
  /** The worst state of all results; `fault` where there was nothing to verify. */
  readonly verdict: Result['state']
  readonly results: readonly Result[]
}

/** The result of one test of one cluster. */
interface Result {
  readonly cluster: string
  /** `tunnel`: packets through the tunnel came back. `service`: a connection to a service of the cluster. */
  readonly test: 'tunnel' | 'service'
  /** The gateways that answered, or the name and the port of the service. */
  readonly subject: string
  readonly state: 'ok' | 'warning' | 'fault'
  /** What was measured, or where it ended. */
  readonly text: string
  /** What the operator does about it. */
  readonly fix?: string
}

const SERVICES_MAX = 100
// Clusters that are tested at a time. meshd runs four pings at a time for all its callers.
const AT_A_TIME = 3
// A loss of 10 % shows in two of three runs.
const PING = { count: 10, intervalMs: 100 } as const
const PING_TIMEOUT_MS = 15_000
// The kernel and a connection take some seconds each where they do not answer.
const WHY_TIMEOUT_MS = 30_000

/** Adds the command `verify`. Exit code 1 when a test fails or there was nothing to test. Errors of meshd: NOT_JOINED. */
export function addVerify(program: Command): void {
  const command = program
    .command('verify')
    .summary('tests the way to each cluster from end to end, and leaves nothing')
    .description(
      'Tests the way to each other cluster as the pods of this one use it. For each cluster it sends packets through the ' +
        'tunnel; then it takes some of its services, asks the DNS of the mesh for their names, follows the way through load ' +
        'balancer, tunnel and routes, and opens a TCP connection, on which it sends nothing. It sets nothing up.'
    )
    .argument('[cluster...]', 'names of other clusters (default: all)')
    .addOption(
      new Option('-s, --services <number>', `services of each cluster, 0 to ${SERVICES_MAX}`)
        .argParser(parseServices)
        .default(3)
    )
    .action(async (names: readonly string[], { services }: Options) => {
      const context = contextOf(command, { hasTable: true })
      const answer = await verify(
        context,
        names.map((name) => parseClusterName('<cluster>', name)),
        services
      )
      print(context, answer, (clean) => render(clean, context))
      if (answer.verdict === 'fault') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['After an installation or a change of the network', 'meshctl verify'],
      ['One cluster, with twenty of its services', 'meshctl verify east -s 20'],
      [
        'For a script: the tests that failed',
        'meshctl verify -o json | jq \'.results[] | select(.state == "fault")\''
      ]
    ],
    'Exit codes: 0 when all tests pass, 1 when one fails or the mesh has no other cluster. It tests the way there: run it in the\n' +
      'other cluster, too, for the way back.'
  )
}

/** Parses the value of --services. Errors: BAD_ARGUMENT. */
function parseServices(text: string): number {
  const services = Number(text)
  if (/^\d{1,3}$/.test(text) && services <= SERVICES_MAX) return services
  throw badArgument(
    '--services',
    `${quote(text)} is not a number from 0 to ${SERVICES_MAX}`,
    'use a number, as in -s 20'
  )
}

/**
 * Runs all tests, some clusters at a time, and returns the results in the order of the clusters. A test that cannot be made
 * is a fault of its own, and the others go on. Errors: those of the first two requests; UNKNOWN_CLUSTER, OWN_CLUSTER.
 */
async function verify(context: Context, names: readonly string[], services: number): Promise<VerifyAnswer> {
  const { client } = context
  const { peers, apiVersion } = await client.request(ENDPOINTS.peers, {
    field: 'peers',
    doing: 'asking for the clusters'
  })
  const known = await client.request(ENDPOINTS.services, {
    field: 'services',
    doing: 'asking for the services'
  })
  const clusters = othersOf(peers, names)
  const quiet = new AbortController()
  const done = isData(context.format)
    ? () => undefined
    : showProgress(
        `testing the way to ${count(clusters.length, 'cluster')}`,
        Math.ceil(clusters.length / AT_A_TIME) * (PING_TIMEOUT_MS + services * WHY_TIMEOUT_MS)
      )
  const results: Result[][] = []
  const next = clusters.entries()
  const work = async () => {
    for (const [index, cluster] of next) {
      const chosen = someOf(
        known.services.filter((service) => service.cluster === cluster),
        services
      )
      results[index] = [
        await testTunnel(context, cluster, quiet.signal),
        ...(await testServices(context, { cluster, chosen, wanted: services }, quiet.signal))
      ]
    }
  }
  try {
    await Promise.all(Array.from({ length: AT_A_TIME }, work))
  } finally {
    done()
  }
  const all = results.flat()
  const verdict =
    (['fault', 'warning'] as const).find((bad) => all.some(({ state }) => state === bad)) ?? 'ok'
  return { apiVersion, verdict: all.length === 0 ? 'fault' : verdict, results: all }
}

/** The clusters to test. Errors: UNKNOWN_CLUSTER, OWN_CLUSTER. */
function othersOf(peers: readonly PeerRow[], names: readonly string[]): readonly string[] {
  const own = peers.find(({ state }) => state === 'self')?.cluster
  const others = [...new Set(peers.map(({ cluster }) => cluster))].filter((cluster) => cluster !== own).sort()
  for (const name of names) {
    if (name === own)
      throw new CliError(
        'OWN_CLUSTER',
        `${name} is the cluster of this agent, so no tunnel leads to it`,
        'name another cluster: `meshctl peers` lists them'
      )
    if (!others.includes(name))
      throw new CliError(
        'UNKNOWN_CLUSTER',
        `no cluster ${quote(name)} is in this mesh`,
        '`meshctl peers` lists the clusters'
      )
  }
  return names.length === 0 ? others : [...new Set(names)]
}

/** Services with a ready endpoint and a TCP port, from as many namespaces as possible. */
function someOf(services: readonly ServiceRow[], wanted: number): readonly ServiceRow[] {
  const usable = services.filter(
    ({ ready, fallback = 0, ports, type }) =>
      type !== 'ExternalName' && ready + fallback > 0 && ports.some(({ protocol }) => protocol === 'TCP')
  )
  const turns = [...Map.groupBy(usable, ({ namespace }) => namespace).values()].flatMap((list) =>
    list.map((service, turn) => ({ service, turn }))
  )
  return turns
    .sort((a, b) => a.turn - b.turn)
    .slice(0, wanted)
    .map(({ service }) => service)
}

/** Sends packets to each gateway of the cluster. Their loss is a warning, their silence a fault. */
async function testTunnel({ client }: Context, cluster: string, signal: AbortSignal): Promise<Result> {
  const test = { cluster, test: 'tunnel' } as const
  return client
    .request(ENDPOINTS.ping, {
      send: { cluster, ...PING },
      field: 'gateways',
      doing: `sending packets to ${cluster}`,
      timeoutMs: PING_TIMEOUT_MS,
      signal
    })
    .then((answer) => ({ ...test, ...tunnelResult(answer) }))
    .catch((error: unknown) => ({ ...test, subject: cluster, ...failure(error) }))
}

/** The result of a series: the gateways that lost packets, each with its reason, and the shortest round trip of all. */
function tunnelResult({ verdict, gateways }: PingAnswer): Omit<Result, 'cluster' | 'test'> {
  const [worst] = gateways.toSorted((a, b) => b.lossPercent - a.lossPercent)
  if (worst === undefined)
    return {
      subject: '-',
      state: 'fault',
      text: 'the cluster announces no gateway',
      fix: 'start meshd on a node of that cluster; `meshctl peers` shows its agents'
    }
  const best = Math.min(...gateways.flatMap(({ rtt }) => rtt?.min ?? []))
  const time = best === Infinity ? '' : `, shortest round trip ${best.toFixed(best < 10 ? 2 : 1)} ms`
  const lost = gateways.flatMap(({ node, lossPercent, reason }) =>
    lossPercent === 0 ? [] : [`${node} lost ${lossPercent} %${reason === undefined ? '' : ` (${reason})`}`]
  )
  const overTcp = gateways.flatMap(({ node, path }) => (path === 'tcp' ? [node] : []))
  const relayed = gateways.flatMap(({ node, path }) =>
    path.startsWith('relay:') ? [`${node} (${path})`] : []
  )
  const path = [
    overTcp.length === 0 ? '' : `; over TCP, since UDP gets no answer: ${overTcp.join(' ')}`,
    relayed.length === 0
      ? ''
      : `; over a relay, since neither UDP nor TCP gets an answer: ${relayed.join(' ')}`
  ].join('')
  return {
    subject: gateways.map(({ node }) => node).join(' '),
    state: verdict === 'answered' ? 'ok' : verdict === 'lossy' ? 'warning' : 'fault',
    text:
      lost.length === 0
        ? `all packets to ${count(gateways.length, 'gateway')} came back${time}${path}`
        : `${lost.join('; ')}${time}${path}`,
    ...(worst.fix === undefined ? {} : { fix: worst.fix })
  }
}

/**
 * Follows a connection to each chosen service, one after the other, so that a cluster gets one connection at a time. A cluster
 * without such a service gets a warning.
 */
async function testServices(
  { client }: Context,
  { cluster, chosen, wanted }: { cluster: string; chosen: readonly ServiceRow[]; wanted: number },
  signal: AbortSignal
): Promise<readonly Result[]> {
  const test = { cluster, test: 'service' } as const
  if (chosen.length === 0 && wanted > 0) {
    const text =
      'the cluster exports no service with a ready endpoint and a TCP port, so no connection was tried'
    return [{ ...test, subject: '-', state: 'warning', text }]
  }
  const results: Result[] = []
  for (const { dnsName, ports } of chosen) {
    const subject = `${dnsName}:${ports.find(({ protocol }) => protocol === 'TCP')?.port}`
    // A DNS server has a UDP port of the same number.
    const target = `${subject}/tcp`
    results.push(
      await client
        .request(ENDPOINTS.why, {
          send: { target, connect: 'yes' },
          field: 'verdict',
          doing: `following a connection to ${subject}`,
          timeoutMs: WHY_TIMEOUT_MS,
          signal
        })
        .then((answer) => ({ ...test, subject, ...serviceResult(answer) }))
        .catch((error: unknown) => ({ ...test, subject, ...failure(error) }))
    )
  }
  return results
}

/** The first stop at which the connection ends, or the time after which it was accepted. */
function serviceResult({ verdict, stops, ways }: WhyAnswer): Pick<Result, 'state' | 'text' | 'fix'> {
  const rows = [...stops, ...ways.flatMap((way) => way.stops)]
  const fault = rows.find(({ state }) => state === 'fault')
  if (fault !== undefined)
    return {
      state: verdict === 'partly' ? 'warning' : 'fault',
      text: `${verdict === 'partly' ? 'one of its addresses ends' : 'it ends'} at the stop ${fault.stop}: ${fault.text}`,
      ...(fault.fix === undefined ? {} : { fix: fault.fix })
    }
  const last = rows.findLast(({ stop }) => stop === 'connection')
  if (last === undefined) return { state: 'warning', text: 'no connection was tried' }
  return { state: last.state === 'ok' ? 'ok' : 'warning', text: last.text }
}

/** A request that failed is the result of its own test only: the tests of the other clusters go on. */
function failure(error: unknown): Pick<Result, 'state' | 'text' | 'fix'> {
  if (!(error instanceof CliError)) throw error
  return { state: 'fault', text: error.message, ...(error.fix === undefined ? {} : { fix: error.fix }) }
}

/** The headline and a row for each test. With -o name the clusters for which all tests passed. */
function render({ verdict, results }: VerifyAnswer, context: Context): Rendered {
  const clusters = [...new Set(results.map(({ cluster }) => cluster))]
  const bad = new Set(results.flatMap(({ cluster, state }) => (state === 'fault' ? [cluster] : [])))
  if (context.format === 'name') return { body: clusters.filter((cluster) => !bad.has(cluster)).join('\n') }
  if (results.length === 0)
    return {
      body: context.style.paint('red', 'Nothing was tested: this mesh has no other cluster'),
      note: '`meshctl invite <cluster>` makes a token for one'
    }
  const colour = verdict === 'ok' ? 'green' : verdict === 'warning' ? 'yellow' : 'red'
  const failed = results.filter(({ state }) => state === 'fault').length
  const tests = `${count(results.length, 'test')} of ${count(clusters.length, 'cluster')}`
  const headline = failed === 0 ? `No fault in ${tests}` : `${count(failed, 'fault')} in ${tests}`
  const table = formatTable<Result>(
    results,
    [
      { title: 'CLUSTER', value: ({ cluster }) => cluster },
      { title: 'TEST', value: ({ test }) => test },
      {
        title: 'STATE',
        value: ({ state }) => state,
        colour: ({ state }) => (state === 'ok' ? 'green' : state === 'fault' ? 'red' : 'yellow')
      },
      { title: 'SUBJECT', value: ({ subject }) => subject },
      {
        title: 'FOUND',
        fold: 1,
        value: ({ text, fix }) => (fix === undefined ? text : `${text}; fix: ${fix}`)
      }
    ],
    context
  )
  return { body: `${context.style.paint(colour, headline)}\n${table}` }
}
