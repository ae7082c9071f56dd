// Builds meshd of its parts in one straight line: each part is complete before the next one starts, so no part has
// fields that are undefined until a later phase. Store, source, data plane and admin API live as long as the process. A
// session lives as long as a membership, and the other parts reach it through `CurrentSession`. Shutdown (shutdown.ts)
// stops the parts in an order of its own.
//
//   foundation (store, identity) → cluster side (source, key, DNS of the pods) → data plane → enrolment → servers
//   (HTTP, admin API)
import type { CatalogOptions } from '../../core/catalog/catalog.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { realPrefixes } from '../../core/model/translation.ts'
import { createCrypto } from '../../io/crypto/crypto.ts'
import { openGatewayFile, type GatewayFile } from '../../io/store/gateway-file.ts'
import { openStore, type Store } from '../../io/store/store.ts'
import type { AgentState } from '../admin/agent-state.ts'
import { Administration } from '../administration/administration.ts'
import { Administrators } from '../administration/administrators.ts'
import { RootKeys } from '../administration/root-keys.ts'
import { createHandlers } from '../admin/handlers.ts'
import { notReady } from '../admin/readiness.ts'
import { startAdmin } from '../admin/server.ts'
import { claimSocket } from '../admin/socket.ts'
import { OwnCoredns } from '../cluster-dns/managed-coredns.ts'
import { PodDns } from '../cluster-dns/pod-dns.ts'
import { zonesToWire } from '../cluster-dns/zones-to-wire.ts'
import { Enrolment } from '../enrolment/enrolment.ts'
import { Founding } from '../enrolment/founding.ts'
import { GatewayInvites } from '../enrolment/gateway-invites.ts'
import { Invitations } from '../enrolment/invitations.ts'
import { KeyInheritance } from '../enrolment/key-inheritance.ts'
import { KeySuccession } from '../enrolment/key-succession.ts'
import { SharedKey } from '../enrolment/shared-key.ts'
import { ToldToJoin } from '../enrolment/told-to-join.ts'
import { OwnObjects } from '../mcs/own-objects.ts'
import { startDataPlane, type DataPlane } from '../host/data-plane.ts'
import type { Membership } from '../identity/identity.ts'
import { NodeIdentity } from '../identity/node-identity.ts'
import { monotonicMs } from '../observe/clock.ts'
import { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import { LogRing } from '../observe/log-ring.ts'
import { createMetrics, type Metrics } from '../observe/metrics.ts'
import { CurrentSession } from '../session/current-session.ts'
import { siteFacts } from '../session/site-speaker.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'
import { SourceFacts } from '../sources/source-facts.ts'
import { openSource, type Source } from '../sources/source.ts'
import { HealthServer } from './health-server.ts'
import { isLastingStop } from './lasting-stop.ts'
import { PartWatch } from './part-watch.ts'
import { Shutdown } from './shutdown.ts'
import { StoreKeeper } from './store-keeper.ts'

/** A running agent; main.ts holds it until a signal arrives. */
export interface Agent {
  /** Stops all parts. Traffic flows on, because the host keeps tunnel, routes and services. Never rejects. */
  stop(): Promise<void>
}

/**
 * Starts the agent, and resolves when it runs, in a mesh or not. The source may still wait for an API server then.
 * Errors: of store, data plane, source, transport and sockets, each with a code and a fix. All parts that had started
 * are then stopped. `lines`: the latest lines of the log.
 */
export async function startAgent(settings: Settings, log: Log, lines = new LogRing()): Promise<Agent> {
  const shutdown = new Shutdown(log)
  try {
    await start({ settings, log, lines }, shutdown)
  } catch (error) {
    await shutdown.run()
    throw error
  }
  return { stop: () => shutdown.run() }
}

/**
 * The order of the start. Each part registers how it ends before the next one starts, so that a failure in between
 * stops what runs.
 */
async function start(given: Given, shutdown: Shutdown): Promise<void> {
  const { settings, log } = given
  const startedMs = monotonicMs()
  // The socket is claimed first: another agent that answers on it may own the state folder and the device.
  await claimSocket(settings.socket)
  const foundation = await openFoundation(given, shutdown)
  const cluster = await openCluster(foundation, shutdown)
  const dataPlane = await startDataPlane(foundation)
  shutdown.add('host', () => dataPlane.host?.stop())
  const joining = createJoining({ ...foundation, ...cluster, dataPlane })
  const parts = { ...foundation, ...cluster, ...joining, dataPlane, startedMs }
  const state = stateOf(parts)
  const watch = startWatch(parts, shutdown)
  if (!state.isMember) await parts.toldToJoin.look()
  await startHealthServer(parts, { state, watch, shutdown })
  shutdown.add('session', () => parts.current.session?.stop())
  const isMember = await parts.enrolment.resume()
  await startAdminApi(parts, { state, watch, shutdown })
  if (!isMember)
    log.info({ socket: settings.socket }, 'in no mesh yet: waiting for `meshctl init` or `meshctl join`')
  await startCluster(cluster, shutdown)
  shutdown.add('hand-over', async () => {
    if (await isLastingStop(settings)) await parts.current.session?.ownRecord.handOver.beforeStop()
  })
  shutdown.add('token', () => parts.toldToJoin.stop())
  if (!isMember) parts.toldToJoin.start()
}

/** What main.ts has made before the agent. */
interface Given {
  readonly settings: Settings
  readonly log: Log
  readonly lines: LogRing
}

/** The parts that need no other part. */
interface Foundation extends Given {
  readonly health: Health
  readonly metrics: Metrics
  readonly crypto: Crypto
  readonly store: Store
  /** The invites of further gateways of this cluster, on disk. */
  readonly file: GatewayFile
  readonly node: NodeIdentity
  readonly current: CurrentSession
}

/** Opens the store, which takes the lock of the state folder, and makes the identity at the first start. Errors: StoreError. */
async function openFoundation(given: Given, shutdown: Shutdown): Promise<Foundation> {
  const { settings, log } = given
  const crypto = createCrypto()
  const store = await openStore({ folder: settings['state-dir'], now: Date.now })
  shutdown.add('store', () => store.close())
  const file = await openGatewayFile(store.folder)
  shutdown.add('gateway invites', () => file.close())
  for (const warning of [...store.warnings, ...(file.warning === undefined ? [] : [file.warning])])
    log.warn(warning)
  return {
    ...given,
    health: new Health({ log, now: Date.now }),
    metrics: createMetrics(),
    crypto,
    store,
    file,
    node: await NodeIdentity.open(store, crypto),
    current: new CurrentSession()
  }
}

/** The parts that read and write this agent's own cluster. */
interface Cluster {
  readonly facts: SourceFacts
  readonly source: Source
  /** undefined without a Kubernetes API: a folder of manifests has no Secret. */
  readonly sharedKey: SharedKey | undefined
  /** undefined without a Kubernetes API. */
  readonly podDns: PodDns | undefined
  readonly invitations: Invitations
  /** undefined without a Kubernetes API. */
  readonly ownObjects: OwnObjects | undefined
  /** undefined without the setting corefile. */
  readonly ownCoredns: OwnCoredns | undefined
}

/**
 * Creates the cluster side without starting it; `startCluster` does that. Errors: KubeError BAD_CONFIG, AppError
 * BAD_SETTING.
 */
async function openCluster(foundation: Foundation, shutdown: Shutdown): Promise<Cluster> {
  const { settings, log, crypto, current } = foundation
  const facts = new SourceFacts(foundation)
  const source = await openSource({
    settings,
    log,
    catalogOptions: () => catalogOptions(current.membership, settings),
    termFloor: () => current.termFloor(),
    siteFacts: () => {
      const isFurther = foundation.store.identity()?.joinedBy === 'gateway'
      return current.session && siteFacts(current.session.control, isFurther)
    },
    ...facts.callbacks()
  })
  shutdown.add('source', () => source.stop())
  const { kubernetes } = source
  const sharedKey = kubernetes && new SharedKey({ ...kubernetes, crypto, log })
  shutdown.add('cluster key', () => sharedKey?.stop())
  const podDns =
    kubernetes &&
    new PodDns({
      settings,
      ...kubernetes,
      zones: () => zonesToWire(foundation),
      isSpeaker: () => facts.isSpeaker,
      log
    })
  const invitations = new Invitations(foundation)
  const ownObjects =
    kubernetes &&
    new OwnObjects({
      ...kubernetes,
      settings,
      current,
      invitations,
      isSpeaker: () => facts.isSpeaker,
      log
    })
  const ownCoredns = ownCorednsOf(foundation)
  return { facts, source, sharedKey, podDns, invitations, ownObjects, ownCoredns }
}

/** The writer of the Corefile. It gets the view through `mesh`, because it outlives the sessions. */
function ownCorednsOf({ settings, log, current }: Foundation): OwnCoredns | undefined {
  if (settings.corefile === '') return undefined
  const mesh = () => {
    const { session } = current
    return (
      session && {
        view: session.control.view(),
        whole: session.control.isWhole,
        responder: session.dnsAddress
      }
    )
  }
  return new OwnCoredns({ settings, mesh, log })
}

/**
 * Starts the cluster side after the admin API, because the first snapshot of the source may wait for an API server for
 * a long time.
 */
async function startCluster(
  { source, podDns, ownObjects, ownCoredns }: Cluster,
  shutdown: Shutdown
): Promise<void> {
  await source.start()
  shutdown.add('own objects', () => ownObjects?.stop())
  ownObjects?.start()
  shutdown.add('cluster dns', () => podDns?.stop())
  podDns?.start()
  shutdown.add('own CoreDNS', () => ownCoredns?.stop())
  ownCoredns?.start()
}

/** The parts with which this agent joins a mesh and leaves it. */
interface Joining {
  readonly enrolment: Enrolment
  readonly gateways: GatewayInvites
  readonly succession: KeySuccession
  readonly inheritance: KeyInheritance
  readonly administration: Administration
  readonly administrators: Administrators
  readonly rootKeys: RootKeys
  readonly toldToJoin: ToldToJoin
}

function createJoining(parts: Foundation & Cluster & { readonly dataPlane: DataPlane }): Joining {
  const gateways = new GatewayInvites(parts)
  const rootKeys = new RootKeys(parts)
  const enrolment = new Enrolment({ ...parts, gateways, rootKeys, host: parts.dataPlane.host })
  return {
    enrolment,
    gateways,
    succession: new KeySuccession({ ...parts, enrolment, gateways }),
    inheritance: new KeyInheritance({ ...parts, enrolment }),
    administration: new Administration({ ...parts, gateways, rootKeys }),
    administrators: new Administrators({ ...parts, rootKeys }),
    rootKeys,
    toldToJoin: new ToldToJoin({
      ...parts,
      enrolment,
      founding: new Founding({ ...parts, enrolment }),
      file: tokenFileOf(parts)
    })
  }
}

/** The file with the token; '' where there is none. A node of a Kubernetes cluster waits for the key in the Secret. */
function tokenFileOf({ settings, sharedKey }: Pick<Foundation & Cluster, 'settings' | 'sharedKey'>): string {
  return sharedKey !== undefined && roleOf(settings) === 'node' ? '' : settings['token-file']
}

/** All parts, as the health server, the admin API and PartWatch get them. */
type Parts = Foundation & Cluster & Joining & { readonly dataPlane: DataPlane; readonly startedMs: number }

/** The state for the admin API. Values that change while the agent runs are getters; the others are read once. */
function stateOf(parts: Parts): AgentState {
  const {
    settings,
    startedMs,
    health,
    dataPlane,
    source,
    facts,
    current,
    store,
    node,
    toldToJoin,
    enrolment
  } = parts
  return {
    settings,
    startedMs,
    health,
    host: dataPlane.host,
    hostFault: dataPlane.fault,
    describe: dataPlane.describe,
    sourceKind: source.kind,
    sourcePath: source.path,
    get source() {
      return facts.snapshot
    },
    get session() {
      return current.session
    },
    get membership() {
      return current.membership
    },
    get joining() {
      return current.isJoining
    },
    get isMember() {
      const identity = store.identity()
      return identity?.clusterItem !== undefined
    },
    get pendingCluster() {
      const identity = store.identity()
      return identity?.pending === undefined ? undefined : identity.cluster
    },
    get isLeaving() {
      return enrolment.isLeaving
    },
    get wireguardKey() {
      return node.wireguardKey
    },
    get isToldToJoin() {
      return toldToJoin.isTold
    }
  }
}

/**
 * Starts the check of all parts, once a second. It begins before the session, so that faults of the start are in the
 * registry of health.
 */
function startWatch(parts: Parts, shutdown: Shutdown): PartWatch {
  const { store, health, current, dataPlane } = parts
  const keeper = new StoreKeeper({
    store,
    health,
    nowMs: monotonicMs,
    onReplicaLost: () => current.session?.control.rewrite(),
    mendMore: async () => dataPlane.host?.mendMemory()
  })
  const watch = new PartWatch({ ...parts, keeper, role: roleOf(parts.settings) })
  shutdown.add('store keeper', () => keeper.stop())
  shutdown.add('key inheritance', () => parts.inheritance.stop())
  shutdown.add('part watch', () => watch.stop())
  watch.start()
  return watch
}

/** The parts that the health server and the admin API need. */
interface Serving {
  readonly state: AgentState
  readonly watch: PartWatch
  readonly shutdown: Shutdown
}

/** Each request of /readyz updates the registry of health first, so that the answer is not up to a second old. */
async function startHealthServer(parts: Parts, { state, watch, shutdown }: Serving): Promise<void> {
  const server = new HealthServer({
    ...parts,
    notReady: () => {
      watch.look()
      return notReady(state)
    }
  })
  shutdown.add('http', () => server.stop())
  await server.start()
}

/** Called when identity, host and session exist, so that no answer says "unjoined" of an agent that is in a mesh. */
async function startAdminApi(parts: Parts, { state, watch, shutdown }: Serving): Promise<void> {
  const { settings, log, health } = parts
  const handlers = createHandlers({ ...parts, state, look: () => watch.look() })
  const admin = await startAdmin({ socket: settings.socket, handlers, log, health })
  shutdown.add('admin socket', () => admin.stop())
}

/** The prefixes in which objects of the source must lie; without a membership no prefix is checked. */
function catalogOptions(membership: Membership | undefined, settings: Settings): CatalogOptions {
  if (membership === undefined) return {}
  const { podPrefixes, servicePrefixes } = realPrefixes(membership, membership.translation)
  const { cluster } = membership
  return { podPrefixes, servicePrefixes, cluster, clusterDomain: settings['cluster-domain'] }
}
