// meshd put together: store, host, source and admin API live as long as the process; a session as long as a membership.
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { codeOf } from '../../core/model/coded-error.ts'
import type { CatalogOptions, Problem } from '../../core/catalog/catalog.ts'
import { hostCidr, parseIp } from '../../core/model/cidr.ts'
import { zonesToForward } from '../../core/coredns/cluster-dns.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { HostOp } from '../../core/host/host-state.ts'
import type { Cidr, ClusterName, Ip, Snapshot, WireguardKey } from '../../core/model/values.ts'
import { publicNameWarning } from '../../core/dns/public-names.ts'
import { createCrypto, wireguardPublicKey } from '../../io/crypto/crypto.ts'
import { endDnsProcess } from '../../io/dns/process/client.ts'
import { createHost, type LinuxHost } from '../../io/host/host.ts'
import type { Leadership } from '../../io/kube/lease.ts'
import { openStore, type Identity, type Store } from '../../io/store/store.ts'
import { claimSocket, type AdminSocket } from '../admin/socket.ts'
import { startAdmin, type AdminHandlers } from '../admin/server.ts'
import type { InitRequest, InviteRequest, JoinRequest, Requests } from '../../api/requests.ts'
import * as answers from '../admin/routes/status.ts'
import { clusterKeyOf, SharedKey, withClusterKey, type Enrolled } from '../enrolment/shared-key.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import { dnsControlPath } from '../session/dns-clients.ts'
import { monotonicMs } from '../observe/clock.ts'
import { checkCertified, inviteLine, refuseNodesOnly, uncertified } from '../enrolment/cluster-prefixes.ts'
import { AppError, explain, sentence } from '../observe/errors.ts'
import { startHealthHttp, type HealthHttp } from './health-http.ts'
import { Health, type FaultText } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import * as membership from '../identity/identity.ts'
import type { Membership } from '../identity/identity.ts'
import { createMetrics, type Metrics } from '../observe/metrics.ts'
import { OwnCoredns } from '../cluster-dns/managed-coredns.ts'
import { PodDns } from '../cluster-dns/pod-dns.ts'
import { ProblemLog, sourceFaults } from '../observe/problem-log.ts'
import { Session } from '../session/session.ts'
import { SPEAKER_TERM_MIN } from '../session/speaker.ts'
import { refusal } from '../enrolment/refusal.ts'
import { StoreKeeper } from './store-keeper.ts'
import { nodesWithoutAgent } from '../sources/node-coverage.ts'
import { tellParts, type PartFault } from '../observe/part-fault.ts'
import { openSource, type KubeNode, type Source, type SourceKind } from '../sources/source.ts'
import type { Settings } from '../settings/settings.ts'
import { VERSION } from '../observe/version.ts'

// Dialling, two handshakes and a retry over a bad line; then the person at the terminal wants to know.
const JOIN_DEADLINE_MS = 20_000
const JOIN_RETRY_MS = 15_000
// The key of this cluster may come by another gateway: soon for a person who waits for it, and little for the API server.
const KEY_LOOK_MS = 5000
const CLEANUP_DEADLINE_MS = 30_000
// A neighbour's old process that is about to end, most of the time.
// Faults that parts only list are put into the registry this often, so that the log and the metrics have them, too.
const HEALTH_INTERVAL_MS = 1000
const HTTP_RETRY_MS = 2000

export interface Daemon {
  stop(): Promise<void>
}

/** Errors: of settings, store, host and sockets, each with a code and a fix; nothing is left running then. */
const NOT_JOINED = 'NOT_JOINED'

/** It is told to join, and has not: the traffic of its cluster waits for that. */
function notJoined(error: unknown, file: string): FaultText & { readonly subject: string } {
  const { message, fix } = explain(error)
  const advice =
    file === ''
      ? 'see what it says'
      : `put the token of \`meshctl invite\` into ${file}, readable for this user`
  return {
    severity: 'error',
    subject: file,
    message: `this agent cannot join yet, and tries again: ${message}`,
    fix: fix ?? advice
  }
}

export async function startDaemon(settings: Settings, log: Log): Promise<Daemon> {
  const daemon = new Meshd(settings, log)
  try {
    await daemon.start()
  } catch (error) {
    await daemon.stop()
    throw error
  }
  return daemon
}

/** For a stopped agent: the host as it was before. Errors: HostError; SECOND_INSTANCE when an agent still runs. */
export async function cleanup(settings: Settings): Promise<void> {
  const host = hostOf(settings, { privateKey: () => '', warn: () => undefined })
  await host.start()
  await host.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  await endDnsProcess(dnsControlPath(settings))
  await host.stop()
}

/** What the answers of the admin API are made of. */
export interface State {
  readonly settings: Settings
  /** Monotonic. */
  readonly startedMs: number
  readonly session: Session | undefined
  readonly joining: boolean
  readonly membership: Membership | undefined
  readonly host: LinuxHost | undefined
  readonly hostFault: string | undefined
  /** An operation as commands; works without a data plane, too. */
  readonly describe: (op: HostOp) => readonly string[]
  readonly wireguardKey: WireguardKey
  readonly source: {
    readonly snapshot: Snapshot
    readonly problems: readonly Problem[]
    readonly whole: boolean
  }
  readonly sourceKind: SourceKind
  /** The folder, or the URL of the API server. */
  readonly sourcePath: string
  /** A token or a key of the cluster's other gateways tells it to join by itself. */
  readonly isToldToJoin: boolean
  readonly health: Health
}

class Meshd implements State {
  readonly settings: Settings
  readonly startedMs = monotonicMs()
  readonly #log: Log
  readonly #crypto: Crypto = createCrypto()
  readonly #metrics: Metrics = createMetrics()
  readonly health: Health
  #store: Store | undefined
  #keeper: StoreKeeper | undefined
  #admin: AdminSocket | undefined
  #http: HealthHttp | undefined
  #httpRetry: NodeJS.Timeout | undefined
  #source: Source | undefined
  #podDns: PodDns | undefined
  #ownCoredns: OwnCoredns | undefined
  /** Only with a Kubernetes API. */
  #sharedKey: SharedKey | undefined
  #leadership: Leadership = { leader: false }
  #nodePrefixes: readonly Cidr[] | undefined
  #nodes: readonly KubeNode[] = []
  #nodeAddresses: readonly Ip[] = []
  session: Session | undefined
  joining = false
  isToldToJoin = false
  #healthLook: NodeJS.Timeout | undefined
  membership: Membership | undefined
  host: LinuxHost | undefined
  hostFault: string | undefined
  describe: State['describe']
  readonly #edge: LinuxHost
  readonly #hostWarnings = new Set<string>()
  wireguardKey = '' as WireguardKey
  source: State['source'] = { snapshot: { services: [], endpointSlices: [] }, problems: [], whole: false }
  #onHandshake: (outcome: HandshakeOutcome) => void = () => undefined
  /** init, join and leave change who we are: one at a time. */
  #changing = false
  #stopped = false
  #newIdentity: Promise<Identity> | undefined
  #joinRetry: NodeJS.Timeout | undefined

  constructor(settings: Settings, log: Log) {
    this.settings = settings
    this.#log = log
    this.health = new Health({ log, now: Date.now })
    this.#edge = hostOf(settings, {
      privateKey: () => this.#store?.identity()?.wireguardPrivateKey ?? '',
      warn: (message) => this.#hostWarnings.add(message)
    })
    this.describe = (op) => this.#edge.describe(op)
  }

  /** Parts that keep a list of their faults: it is put into the registry before each look at it. */
  #lookAtParts(): void {
    const told = (text: string): PartFault => ({ message: text, fix: '' })
    tellParts(this.health, {
      STORE: (this.#store?.warnings ?? []).map(told),
      HOST_SETUP: [...this.#hostWarnings].map(told),
      CLUSTER_DNS: this.#podDns?.faults ?? [],
      MANAGED_COREDNS: this.#ownCoredns?.faults ?? [],
      SOURCE: [this.#source?.fault],
      CLUSTER_KEY: [this.#sharedKey?.fault],
      CONTROL: (this.session?.control.warnings ?? []).map(told),
      DNS_FAILED: [this.session?.faults.get('dns')],
      PROBE_FAILED: [this.session?.faults.get('probe')],
      FEED_FAILED: [this.session?.faults.get('feed')]
    })
    const failed = this.session?.reconciler?.fault
    if (failed === undefined) this.health.clear('HOST_PASS')
    else
      this.health.set('HOST_PASS', {
        severity: 'critical',
        message: `the last pass over this host ended with an error of the agent's own: ${failed}`,
        fix: 'see the log; the host keeps what it has, and the pass is tried again within 15 s'
      })
    this.#lookAtNodes()
    this.#metrics.tellHealth(this.health)
  }

  #lookAtNodes(): void {
    const view = this.session?.control.view()
    const agents = view?.clusters.get(view.self)?.agents ?? []
    const fault = nodesWithoutAgent(
      this.#nodes,
      agents.map(({ agent }) => agent.node)
    )
    if (fault === undefined) this.health.clear('NODES_WITHOUT_AGENT')
    else this.health.set('NODES_WITHOUT_AGENT', fault)
  }

  /** An invite is closed as soon as its cluster is a member, so that nothing of it is in the way once that cluster has left. */
  async #closeInvites(): Promise<void> {
    const store = this.#store
    const identity = store?.identity()
    if (store === undefined || identity?.invites === undefined || this.session === undefined) return
    const next = membership.withoutRedeemedInvites(identity, this.session.control.view())
    if (next === identity || this.#changing) return
    await store.saveIdentity(next)
  }

  async start(): Promise<void> {
    const { settings } = this
    await claimSocket(settings.socket) // before anything is touched that the agent that answers there may own
    this.#store = await openStore({ folder: settings['state-dir'], now: Date.now })
    for (const warning of this.#store.warnings) this.#log.warn(warning)
    const identity = await this.#identity(this.#store)
    this.wireguardKey = wireguardPublicKey(membership.bytes(identity.wireguardPrivateKey)) as WireguardKey
    this.#source = await this.#openSource()
    if (this.#source.kubernetes !== undefined)
      this.#sharedKey = new SharedKey({ ...this.#source.kubernetes, crypto: this.#crypto, log: this.#log })
    this.#keeper = new StoreKeeper({
      store: this.#store,
      health: this.health,
      nowMs: monotonicMs,
      onReplicaLost: () => this.session?.control.rewrite(),
      mendMore: async () => this.host?.mendMemory()
    })
    this.#healthLook = setInterval(() => {
      this.#lookAtParts()
      void this.#keeper?.look()
      this.#closeInvites().catch((error: unknown) =>
        this.#log.warn(
          { err: error },
          'a redeemed invite could not be closed; this is tried again each second'
        )
      )
    }, HEALTH_INTERVAL_MS)
    await this.#startHost()
    await this.#startHttp()
    const known = membership.membershipOf(identity)
    if (known !== undefined) {
      await this.#enter(known, { admitted: true })
      this.#takePart()
    }
    // Not before: who asks is told the truth, and `init` finds identity, host and source. Not after the source: it may wait for an API.
    this.#admin = await startAdmin({
      socket: settings.socket,
      handlers: this.#handlers(),
      log: this.#log,
      health: this.health
    })
    if (known === undefined)
      this.#log.info(
        { socket: settings.socket },
        'in no mesh yet: waiting for `meshctl init` or `meshctl join`'
      )
    await this.#startSource()
    this.#startOwnCoredns()
    if (known === undefined && (settings['token-file'] !== '' || this.#sharedKey !== undefined))
      void this.#comeUp()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#healthLook)
    clearTimeout(this.#joinRetry)
    clearTimeout(this.#httpRetry)
    // Each by itself: one that does not end well must not leave the store open.
    const parts: readonly (readonly [name: string, end: () => Promise<unknown> | undefined])[] = [
      ['cluster key', () => this.#sharedKey?.rest()],
      ['admin socket', () => this.#admin?.stop()],
      ['cluster dns', () => this.#podDns?.stop()],
      ['own CoreDNS', () => this.#ownCoredns?.stop()],
      ['source', () => this.#source?.stop()],
      ['session', () => this.session?.stop()],
      ['http', () => this.#http?.stop()],
      ['host', () => this.host?.stop()],
      ['store keeper', () => this.#keeper?.stop()],
      ['store', () => this.#store?.close()]
    ]
    for (const [part, end] of parts) {
      try {
        await end()
      } catch (error) {
        this.#log.error({ err: error, part }, 'a part of the agent did not stop well')
      }
    }
  }

  // ------------------------------------------------------------------ parts

  /** The node key is on disk before its first use. */
  async #identity(store: Store): Promise<Identity> {
    const known = store.identity()
    if (known !== undefined) return known
    // Once, however many ask while it is being written: the tunnel's key and the certificate must be of one identity.
    this.#newIdentity ??= (async () => {
      const fresh = membership.createIdentity(this.#crypto)
      await store.saveIdentity(fresh)
      return fresh
    })().finally(() => (this.#newIdentity = undefined))
    return this.#newIdentity
  }

  async #startHost(): Promise<void> {
    const { settings } = this
    if (settings.dataplane === 'off') {
      this.hostFault = 'switched off by the setting dataplane'
      return
    }
    const host = this.#edge
    const [fault] = await host.preflight()
    if (fault !== undefined) {
      if (settings.dataplane === 'on') throw fault
      this.hostFault = sentence(fault)
      const { message, fix } = explain(fault)
      this.health.set('DATAPLANE_OFF', {
        severity: 'critical',
        message: `no packet reaches another cluster from this host: the data plane cannot run: ${message}`,
        fix: `${fix ?? 'see the log'}, then restart meshd; a host without data plane on purpose sets dataplane: off`
      })
      return
    }
    await host.start()
    this.host = host
  }

  /** A port that is in use is a fault of a running agent, tried again: traffic does not wait for metrics. */
  async #startHttp(): Promise<void> {
    const listen = this.settings['http-listen']
    if (listen === 'off') return
    try {
      this.#http = await startHealthHttp({
        listen,
        metrics: this.#metrics,
        notReady: () => {
          this.#lookAtParts()
          return answers.notReady(this)
        },
        onError: (error) => this.#log.warn({ err: error }, 'a connection for health or metrics was lost')
      })
      this.health.clear('HTTP_LISTEN')
    } catch (error) {
      if (this.#stopped) return
      this.health.setError('HTTP_LISTEN', error, { severity: 'error', fix: 'check the setting http-listen' })
      this.#httpRetry = setTimeout(() => void this.#startHttp(), HTTP_RETRY_MS)
    }
  }

  async #startSource(): Promise<void> {
    const source = this.#opened()
    await source.start()
    if (source.kubernetes === undefined) return
    this.#podDns = new PodDns({
      settings: this.settings,
      ...source.kubernetes,
      zones: () => this.#zonesToWire(),
      isSpeaker: () => this.#leadership.leader,
      log: this.#log
    })
    this.#podDns.start()
  }

  #startOwnCoredns(): void {
    if (this.settings.corefile === '') return
    this.#ownCoredns = new OwnCoredns({
      settings: this.settings,
      mesh: () =>
        this.session && {
          view: this.session.control.view(),
          whole: this.session.control.isWhole,
          responder: this.session.dnsAddress
        },
      log: this.#log
    })
    this.#ownCoredns.start()
  }

  #openSource(): Promise<Source> {
    const problemLog = new ProblemLog(this.#log)
    return openSource({
      settings: this.settings,
      log: this.#log,
      catalogOptions: () => catalogOptions(this.membership, this.settings),
      onNodePrefixes: (prefixes) => {
        this.#nodePrefixes = prefixes
        this.session?.setNodePrefixes(prefixes)
      },
      onNodes: (nodes) => {
        this.#nodes = nodes
      },
      onNodeAddresses: (addresses) => {
        this.#nodeAddresses = addresses
        this.session?.setNodeAddresses(addresses)
      },
      termFloor: () => this.session?.termFloor() ?? SPEAKER_TERM_MIN,
      onLeadership: (leadership) => {
        this.#leadership = leadership
        this.session?.setLeadership(leadership)
      },
      onSnapshot: (snapshot, problems, state) => {
        this.source = { snapshot, problems, whole: state.whole }
        this.#metrics.sourceSnapshots.inc()
        this.#metrics.sourceProblems.set(problems.length)
        problemLog.tell(problems)
        this.health.replace('MANIFESTS', sourceFaults(problems))
        this.session?.setSnapshot(snapshot, state)
      }
    })
  }

  async #enter(known: Membership, { admitted }: { admitted: boolean }): Promise<Session> {
    const identity = this.#open().identity()
    if (identity === undefined) throw new Error('no identity')
    const session = new Session({
      membership: known,
      admitted,
      nodeSeed: membership.bytes(identity.nodeSeed),
      wireguardKey: this.wireguardKey,
      crypto: this.#crypto,
      store: this.#open(),
      host: this.host,
      settings: this.settings,
      software: VERSION,
      log: this.#log,
      metrics: this.#metrics,
      health: this.health,
      onHandshake: (outcome) => this.#onHandshake(outcome)
    })
    try {
      await session.start()
    } catch (error) {
      await session.stop()
      throw error
    }
    this.session = session
    this.membership = known
    session.setLeadership(this.#leadership)
    if (this.#nodePrefixes !== undefined) session.setNodePrefixes(this.#nodePrefixes)
    session.setNodeAddresses(this.#nodeAddresses)
    if (this.source.whole) session.setSnapshot(this.source.snapshot, { whole: true, changes: [] })
    this.#source?.refresh()
    return session
  }

  // ------------------------------------------------------------------ membership

  async #init(request: InitRequest) {
    return this.#change(async (store) => {
      const identity = await this.#identity(store)
      await this.#sharedKey?.expectNone()
      const next = membership.initMesh(await this.#withPrefixes(request), {
        crypto: this.#crypto,
        identity,
        nowMs: Date.now(),
        hostNetworks: hostNetworks()
      })
      await store.saveIdentity(next)
      try {
        await this.#sharedKey?.found(clusterKeyOf(next, this.#crypto, { pending: false }))
        await this.#enter(membership.pendingMembership(next), { admitted: true })
      } catch (error) {
        await store.saveIdentity(identity)
        await this.#sharedKey?.retract(next, { onlyPending: false })
        throw error
      }
      this.#takePart()
      return { ...answers.joined(this), ...warningsOf(this.#nameWarnings(request.cluster)) }
    })
  }

  #nameWarnings(cluster: string): readonly string[] {
    const warning = publicNameWarning(cluster)
    if (warning === undefined) return []
    this.#log.warn({ cluster }, warning)
    return [warning]
  }

  /** Prefixes that were not named are those the cluster itself knows, where it does. */
  async #withPrefixes(request: InitRequest): Promise<InitRequest> {
    if (request.podCidrs.length > 0 && request.serviceCidrs.length > 0) return request
    const found = await this.#opened().discover()
    if (request.podCidrs.length === 0) refuseNodesOnly(found)
    const { podPrefixes, servicePrefixes } = found
    return {
      ...request,
      podCidrs: request.podCidrs.length > 0 ? request.podCidrs : podPrefixes,
      serviceCidrs: request.serviceCidrs.length > 0 ? request.serviceCidrs : servicePrefixes
    }
  }

  async #invite(request: InviteRequest) {
    const session = this.#session()
    const store = this.#open()
    const view = session.control.view()
    const bootstrap = new Map<ClusterName, readonly string[]>()
    for (const name of [view.self, ...view.clusters.keys()]) {
      const agents = view.clusters.get(name)?.agents ?? []
      bootstrap.set(
        name,
        agents.flatMap(({ origin, agent }) => agent.multiaddrs.map((address) => `${address}/p2p/${origin}`))
      )
    }
    const made = membership.invite(request, {
      crypto: this.#crypto,
      identity: await this.#identity(store),
      nowMs: Date.now(),
      view,
      bootstrap,
      hostNetworks: hostNetworks(),
      around: await session.around()
    })
    await store.saveIdentity(made.identity)
    this.#log.info(
      { cluster: request.cluster, prefixes: [...made.podPrefixes, ...made.servicePrefixes] },
      'invited'
    )
    return {
      token: made.token,
      cluster: request.cluster,
      expires: new Date(made.expiresMs).toISOString(),
      podCidrs: made.podPrefixes,
      serviceCidrs: made.servicePrefixes,
      bootstrap: made.bootstrap,
      ...warningsOf([...made.warnings, ...this.#nameWarnings(request.cluster)])
    }
  }

  /** Without a token: as one more gateway of a cluster whose key is in its Secret. */
  async #join({ token }: { readonly token: string | undefined }) {
    const known = this.#store?.identity()
    if (this.session !== undefined && token !== undefined && known !== undefined)
      if (membership.isJoinedWith(known, { crypto: this.#crypto, token }))
        return { ...answers.joined(this), already: true }
    return this.#change(async (store) => {
      const before = await this.#identity(store)
      const { identity, isMember, untilAnswered } = await this.#enrol(store, before, token)
      try {
        await this.#comparePrefixes(membership.pendingMembership(identity))
      } catch (error) {
        await store.saveIdentity(before)
        if (!isMember) await this.#sharedKey?.retract(identity, { onlyPending: true })
        throw error
      }
      if (isMember) await this.#enterAsMember(store, { before, identity })
      else await this.#enterWithConsent(store, { before, identity, untilAnswered })
      this.#takePart()
      return answers.joined(this)
    })
  }

  /** Errors: AppError PREFIX_MISMATCH. What the cluster does not tell is no reason to refuse. */
  async #comparePrefixes(certified: Membership): Promise<void> {
    const found = await this.#opened()
      .discover()
      .catch((error: unknown) => {
        this.#log.warn(
          { err: error },
          'the prefixes of this cluster cannot be compared with those of the token'
        )
        return undefined
      })
    if (found === undefined) return
    checkCertified(certified, found)
    const outside = uncertified(certified, found)
    if (outside.length === 0) this.health.clear('PREFIXES_OUTSIDE')
    else
      this.health.set('PREFIXES_OUTSIDE', {
        severity: 'warning',
        message: `addresses of this cluster in ${outside.join(', ')} are outside the prefixes that the mesh knows of it, so they are not reached`,
        fix: `leave and join again with another token: ${inviteLine(certified, found)}`
      })
  }

  async #enrol(store: Store, before: Identity, token: string | undefined): Promise<Enrolled> {
    const save = (identity: Identity): Promise<void> => store.saveIdentity(identity)
    const nowMs = Date.now()
    if (this.#sharedKey !== undefined) return this.#sharedKey.enrol({ before, token, nowMs, save })
    if (token === undefined) throw new Error('nothing to join with')
    const pending = membership.redeemToken(token, { crypto: this.#crypto, identity: before, nowMs })
    await save(pending) // first: a member that accepts us must find us again after a crash
    return { identity: pending, isMember: false, untilAnswered: pending }
  }

  async #enterAsMember(store: Store, { before, identity }: { before: Identity; identity: Identity }) {
    await store.saveIdentity(identity)
    try {
      await this.#enter(membership.pendingMembership(identity), { admitted: true })
    } catch (error) {
      await store.saveIdentity(before)
      throw error
    }
  }

  /** Counts once a member of another cluster has accepted it: one of our own may be waiting for that as well. */
  async #enterWithConsent(
    store: Store,
    { before, identity, untilAnswered }: { before: Identity; identity: Identity; untilAnswered: Identity }
  ): Promise<void> {
    this.joining = true
    const admitted = Promise.withResolvers<void>()
    admitted.promise.catch(() => undefined) // awaited below; a refusal may come before
    const deadline = setTimeout(() => admitted.reject(this.#unreachable()), JOIN_DEADLINE_MS)
    this.#onHandshake = (outcome) => {
      if (outcome.kind === 'refused') admitted.reject(refusal(outcome))
      else if (outcome.cluster !== identity.cluster) admitted.resolve()
    }
    try {
      const session = await this.#enter(membership.pendingMembership(identity), { admitted: false })
      await admitted.promise
      await store.saveIdentity(membership.accepted(identity))
      session.admit()
    } catch (error) {
      const gave = this.session
      this.session = undefined
      this.membership = undefined
      await gave?.stop()
      await store.forget()
      // Only a member's word ends it: where none answered, the token may have got through and is tried again.
      const isRefused = explain(error).code !== 'UNREACHABLE'
      await store.saveIdentity(isRefused ? before : untilAnswered)
      if (isRefused) await this.#sharedKey?.retract(identity, { onlyPending: true })
      throw error
    } finally {
      clearTimeout(deadline)
      this.#onHandshake = () => undefined
      this.joining = false
    }
  }

  /**
   * For installers: a token laid down beside the agent, or a key that another gateway of this cluster has laid down. What is not there
   * yet, or a member that is away, is awaited.
   */
  async #comeUp(): Promise<void> {
    const file = this.settings['token-file']
    let delayMs = JOIN_RETRY_MS
    try {
      const token = await this.#tokenIn(file)
      this.isToldToJoin = token !== undefined
      if (token !== undefined || (await this.#sharedKey?.find()) !== undefined)
        return void (await this.#join({ token }))
      delayMs = KEY_LOOK_MS
    } catch (error) {
      if (this.#stopped || (this.session !== undefined && !this.joining)) return
      this.#log.warn({ err: error, file, retryMs: JOIN_RETRY_MS }, 'not in a mesh yet')
      this.health.replace(NOT_JOINED, [notJoined(error, file)])
    }
    if (this.#stopped || (this.session !== undefined && !this.joining)) return
    this.#joinRetry = setTimeout(() => void this.#comeUp(), delayMs)
  }

  /** undefined: there is none, and perhaps none is needed. Errors: of the file system. */
  async #tokenIn(file: string): Promise<string | undefined> {
    if (file === '') return undefined
    try {
      return await readFile(file, 'utf8')
    } catch (error) {
      if (this.#sharedKey !== undefined && codeOf(error) === 'ENOENT') return undefined
      throw error
    }
  }

  /** A member from now on: it may speak for its cluster, and the Secret has what it has, and the other way round. */
  #takePart(): void {
    this.health.replace(NOT_JOINED, [])
    this.#opened().stand(this.#session().control.origin)
    this.#sharedKey?.keep({
      identity: () => this.#store?.identity(),
      self: () => {
        const { control, facts } = this.#session()
        return { origin: control.origin, addresses: facts.multiaddrs }
      },
      take: async (key) => {
        const store = this.#open()
        const next = withClusterKey(await this.#identity(store), key, Date.now())
        await store.saveIdentity(next)
        this.membership = membership.pendingMembership(next)
        this.#session().renew(this.membership)
        this.#source?.refresh()
      }
    })
  }

  async #leave() {
    const session = this.#session()
    return this.#change(
      async (store) => {
        const view = session.control.view()
        const cluster = view.self
        const others = view.clusters
          .get(cluster)
          ?.agents.filter(({ origin }) => origin !== session.control.origin)
        const identity = await this.#identity(store)
        await this.#sharedKey?.rest()
        await this.#opened().resign()
        const isLast = others === undefined || others.length === 0
        // The gateways that stay need the zones and the key; the last one takes them along.
        if (isLast)
          await this.#podDns
            ?.undo()
            .catch((error: unknown) =>
              this.#log.warn({ err: error }, 'the zones stay in the cluster’s own DNS')
            )
        await session.withdraw()
        this.session = undefined
        this.membership = undefined
        await session.stop({ leaves: true })
        await this.host?.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
        await store.forget()
        if (isLast) await this.#sharedKey?.retract(identity, { onlyPending: false })
        const fresh = await this.#identity(store)
        this.wireguardKey = wireguardPublicKey(membership.bytes(fresh.wireguardPrivateKey)) as WireguardKey
        this.#log.info({ cluster }, 'left the mesh')
        return { cluster }
      },
      { joined: true }
    )
  }

  async #change<T>(act: (store: Store) => Promise<T>, { joined } = { joined: false }): Promise<T> {
    if (this.#changing)
      throw new AppError('ALREADY_CHANGING', 'another init, join or leave is under way', 'wait for it to end')
    if (!joined && this.session !== undefined) {
      throw new AppError(
        'ALREADY_JOINED',
        `this agent is cluster ${this.membership?.cluster} of a mesh already`,
        '`meshctl leave` first; its token or mesh is not changed by this'
      )
    }
    this.#changing = true
    try {
      return await act(this.#open())
    } finally {
      this.#changing = false
    }
  }

  #unreachable(): AppError {
    const tried = (this.session?.control.transport.dialState() ?? []).map(
      ({ addresses, lastError }) =>
        `${addresses.join(', ')}${lastError === undefined ? '' : ` (${lastError})`}`
    )
    return new AppError(
      'UNREACHABLE',
      `none of the members that the token names answered within ${JOIN_DEADLINE_MS / 1000} s: ${tried.join('; ')}`,
      'check that their control port is reachable from here (TCP), then join again with the same token'
    )
  }

  #open(): Store {
    if (this.#store === undefined)
      throw new AppError('STARTING', 'the agent is still starting', 'try again in a moment')
    return this.#store
  }

  /** `cluster.<name>` of every cluster, the own one included. */
  #zonesToWire(): readonly string[] {
    const zones = this.session?.names().zones() ?? []
    return zonesToForward(
      zones.map(({ zone }) => zone),
      this.settings['cluster-domain']
    )
  }

  #opened(): Source {
    if (this.#source === undefined) throw new Error('the source is not open')
    return this.#source
  }

  get sourceKind(): SourceKind {
    return this.#source?.kind ?? 'folder'
  }

  get sourcePath(): string {
    return this.#source?.path ?? this.settings.manifests
  }

  #session(): Session {
    if (this.session === undefined) {
      throw new AppError(
        'NOT_JOINED',
        'this cluster is in no mesh yet',
        '`meshctl init` makes one, `meshctl join <token>` joins one'
      )
    }
    return this.session
  }

  #handlers(): AdminHandlers {
    return {
      status: async () => {
        this.#lookAtParts()
        return answers.status(this)
      },
      peers: async () => answers.peers(this, this.#session()),
      services: async () => answers.services(this.#session()),
      routes: async () => answers.routes(this, this.#session()),
      dns: async (query: Requests['dns']) => answers.dns(this.#session(), query),
      plan: async () => answers.plan(this, this.#session()),
      init: (request: InitRequest) => this.#init(request),
      invite: (request: InviteRequest) => this.#invite(request),
      join: (request: JoinRequest) => this.#join(request),
      leave: () => this.#leave()
    }
  }
}

function warningsOf(warnings: readonly string[]): { readonly warnings?: readonly string[] } {
  return warnings.length === 0 ? {} : { warnings }
}

function catalogOptions(membership: Membership | undefined, settings: Settings): CatalogOptions {
  if (membership === undefined) return {}
  const { podPrefixes, servicePrefixes, cluster } = membership
  return { podPrefixes, servicePrefixes, cluster, clusterDomain: settings['cluster-domain'] }
}

function hostOf(
  settings: Settings,
  options: { readonly privateKey: () => string; readonly warn: (message: string) => void }
): LinuxHost {
  return createHost({
    device: settings.device,
    stateFolder: join(settings['state-dir'], 'host'),
    loadBalancer: settings['load-balancer'],
    sysctlRoot: settings['sysctl-root'],
    ...options
  })
}

/** The addresses of this host: free prefixes are chosen around them. */
function hostNetworks(): Cidr[] {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map((entry) => parseIp(entry.address))
    .flatMap((ip) => (ip === undefined ? [] : [hostCidr(ip)]))
}
