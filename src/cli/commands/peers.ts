// `meshctl peers` lists every agent of the mesh and the state of the tunnel to it. The rows come from GET /v1/peers and
// are what this agent sees: another agent may see another state. Columns that say nothing new are left out, so that the
// table of a healthy mesh is narrow.
import type { Command } from 'commander'
import type { PeerRow, PeersAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { isFlapping } from '../../core/host/flapping.ts'
import { ofCluster } from '../meshd/arguments.ts'
import { addExamples, contextOf, type Context, type Rendered } from '../meshd/context.ts'
import { healthNotes } from '../output/health.ts'
import type { Colour } from '../output/style.ts'
import { formatTable, type Column } from '../output/table.ts'
import { formatBytes, formatDuration, formatMilliseconds } from '../output/units.ts'
import { prefixesText } from '../meshd/real-prefixes.ts'
import { addWatch, showView, type WatchOption } from '../meshd/watch.ts'

/** The options of the command line. Without one, all rows are shown. */
interface Options extends WatchOption {
  readonly cluster?: string
}

/**
 * Adds the command `peers`. Errors of meshd: NOT_JOINED (exit code 4). A name that no cluster has is a note and no
 * error.
 */
export function addPeers(program: Command): void {
  const command = program
    .command('peers')
    .summary('the other clusters, and the state of the tunnel to each')
    .description(
      'Lists every agent of the mesh. STATE comes from the tunnel itself, not from the control connection: ' +
        'self, up, flapping (up now, with two outages or more in the last 10 min), drained (up, but ' +
        'its gateway hands over to the others of its cluster), connecting, down, conflict (its prefix or ' +
        'name belongs to an older certificate) or off. ' +
        'PATH is direct (UDP), tcp (over the control connection, since UDP gets no answer), dial-in (only the peer can ' +
        'begin) or via a gateway; REASON says why it is no better one. ' +
        'LAG counts the operations of that agent that have not arrived here yet.'
    )
    .option('--cluster <name>', 'only this cluster')
    .action(async (options: Options) => {
      const context = contextOf(command, { hasTable: true })
      await showView(context, options, {
        fetch: async (signal) => {
          const answer = await context.client.request(ENDPOINTS.peers, {
            field: 'peers',
            doing: 'reading the peers',
            ...(signal === undefined ? {} : { signal })
          })
          return { ...answer, peers: answer.peers.filter(ofCluster(options.cluster)) }
        },
        render: (answer) => renderPeers(answer, options.cluster, context)
      })
    })
  addWatch(command)
  addExamples(command, [
    ['Who is in the mesh, and is the tunnel up?', 'meshctl peers'],
    ['Follow a cluster as it comes up', 'meshctl peers --cluster east --watch'],
    [
      'Names of clusters that are down, for a script',
      `meshctl peers --json | jq -r '.peers[] | select(.state == "down").cluster'`
    ]
  ])
}

/** The own agent comes first, then the others by cluster and node. `cluster`: only its agents; undefined: all. */
function renderPeers(answer: PeersAnswer, cluster: string | undefined, context: Context): Rendered {
  const rows = answer.peers.toSorted(
    (a, b) => rank(a) - rank(b) || compare(a.cluster, b.cluster) || compare(a.node, b.node)
  )
  if (rows.length === 0) {
    return {
      note:
        cluster === undefined
          ? 'No peers yet. Invite a cluster: meshctl invite <cluster>'
          : `The mesh has no cluster ${cluster}. To list all clusters: meshctl peers`
    }
  }
  if (context.format === 'name') return { body: rows.map((peer) => peer.cluster).join('\n') }
  const others = rows.filter((peer) => peer.state !== 'self')
  const table = formatTable(rows, columnsOf(rows, context.format === 'wide'), context)
  const body = [...healthNotes(answer.health, context), table].join('\n')
  return others.length === 0 && cluster === undefined
    ? { body, note: 'No other cluster yet. Invite one: meshctl invite <cluster>' }
    : { body }
}

/**
 * NODE is shown when a cluster has several agents, ROLE when one of them is a node, CONTROL when a control connection is
 * missing, REASON when a row has one; `wide` adds NODE, ROLE, CONTROL, VERSION and PEER ID. The own row has no traffic, no lag and no control connection. A
 * narrow terminal folds REASON first, then PEER ID, CIDRS, RX/TX, ENDPOINT and VERSION.
 */
function columnsOf(rows: readonly PeerRow[], wide: boolean): readonly Column<PeerRow>[] {
  return [
    { title: 'CLUSTER', value: (peer) => peer.cluster },
    {
      title: 'NODE',
      value: (peer) => peer.node,
      shown: wide || new Set(rows.map((peer) => peer.cluster)).size < rows.length
    },
    {
      title: 'ROLE',
      value: (peer) => peer.role ?? '',
      shown: wide || rows.some((peer) => peer.role === 'node')
    },
    { title: 'STATE', value: stateOf, colour: (peer) => COLOURS[stateOf(peer)] },
    { title: 'PATH', value: (peer) => peer.path },
    { title: 'ENDPOINT', value: (peer) => peer.endpoint ?? '', fold: 4 },
    { title: 'RTT', value: (peer) => optional(peer.rttMs, formatMilliseconds) },
    { title: 'HANDSHAKE', value: (peer) => optional(peer.handshakeAgeSeconds, formatDuration) },
    {
      title: 'RX/TX',
      fold: 3,
      value: (peer) =>
        peer.state === 'self' ? '' : `${formatBytes(peer.rxBytes)} / ${formatBytes(peer.txBytes)}`
    },
    { title: 'CIDRS', value: (peer) => prefixesText(peer.cidrs, peer).replaceAll(', ', ','), fold: 2 },
    { title: 'SVCS', value: (peer) => String(peer.services) },
    {
      title: 'LAG',
      value: (peer) => (peer.state === 'self' ? '' : String(peer.lag)),
      colour: (peer) => (peer.lag > 0 ? 'yellow' : undefined)
    },
    {
      title: 'CONTROL',
      value: (peer) => (hasControl(peer) ? (peer.connected ? 'connected' : 'lost') : ''),
      colour: (peer) => (hasControl(peer) && !peer.connected ? 'yellow' : undefined),
      shown: wide || rows.some((peer) => hasControl(peer) && !peer.connected)
    },
    { title: 'VERSION', value: (peer) => peer.version, shown: wide, fold: 5 },
    { title: 'PEER ID', value: (peer) => peer.peerId, shown: wide, fold: 1 },
    {
      title: 'REASON',
      fold: 0,
      value: reasonsOf,
      shown: rows.some((peer) => reasonsOf(peer) !== '')
    }
  ]
}

/** Why the tunnel is not up, and why its path is no better one. */
function reasonsOf({ reason, pathReason }: PeerRow): string {
  return [reason, pathReason].filter((text) => text !== undefined).join('; ')
}

/** Nodes are leaves: between a node and the agents of other clusters there is no control connection. */
function hasControl({ state, path }: PeerRow): boolean {
  return state !== 'self' && path !== '-' && !path.startsWith('via ')
}

/** A tunnel that is up now and flaps is no tunnel that is up. One of a drained gateway is up and not used. */
function stateOf({ state, changes = 0, handOver }: PeerRow): PeerRow['state'] | 'flapping' | 'drained' {
  if (state !== 'up') return state
  return isFlapping(changes) ? 'flapping' : handOver === undefined ? state : 'drained'
}

// Green: traffic flows. Yellow: wait. Red: the operator should act. Dim: a tunnel is not wanted.
const COLOURS: Readonly<Record<ReturnType<typeof stateOf>, Colour>> = {
  self: 'dim',
  up: 'green',
  flapping: 'yellow',
  drained: 'yellow',
  connecting: 'yellow',
  down: 'red',
  conflict: 'red',
  off: 'dim'
}

/** Sorts the own agent before all others. */
function rank(peer: PeerRow): number {
  return peer.state === 'self' ? 0 : 1
}

/** Compares by code units and not by locale, so that the order is the same on every host. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Returns '' for a missing value, which the table shows as "-". */
function optional(value: number | undefined, format: (value: number) => string): string {
  return value === undefined ? '' : format(value)
}
