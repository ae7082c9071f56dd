// meshd put together: store, host, source and admin API live as long as the process; a session as long as a membership.
import { mkdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type { Problem } from '../core/catalog.ts'
import { hostCidr, parseIp } from '../core/cidr.ts'
import type { Crypto } from '../core/crypto.ts'
import type { HostOp } from '../core/host.ts'
import type { Cidr, ClusterName, Snapshot, WireguardKey } from '../core/model.ts'
import { createCrypto, wireguardPublicKey } from '../io/crypto/crypto.ts'
import { createHost, type LinuxHost } from '../io/host/host.ts'
import { createManifestSource, type ManifestSource } from '../io/manifests/manifest-source.ts'
import { openStore, type Store } from '../io/store/store.ts'
import { startAdmin, type Admin, type AdminHandlers } from './admin.ts'
import type { InitRequest, InviteRequest, JoinRequest } from './api.ts'
import * as answers from './answers.ts'
import type { HandshakeOutcome } from './control.ts'
import { AppError, explain } from './errors.ts'
import { startHealthHttp, type HealthHttp } from './http.ts'
import type { Log } from './log.ts'
import * as membership from './membership.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { Session, type Membership } from './session.ts'
import type { Settings } from './settings.ts'
import { VERSION } from './version.ts'

// Dialling, two handshakes and a retry over a bad line; then the person at the terminal wants to know.
const JOIN_DEADLINE_MS = 20_000
const CLEANUP_DEADLINE_MS = 30_000

export interface Daemon {
  stop(): Promise<void>
}

/** Errors: of settings, store, host and sockets, each with a code and a fix; nothing is left running then. */
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
  await host.stop()
}

/** What the answers of the admin API are made of. */
export interface State {
  readonly settings: Settings
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
  readonly warnings: readonly string[]
}

class Meshd implements State {
  readonly settings: Settings
  readonly startedMs = Date.now()
  readonly #log: Log
  readonly #crypto: Crypto = createCrypto()
  readonly #metrics: Metrics = createMetrics()
  #store: Store | undefined
  #admin: Admin | undefined
  #http: HealthHttp | undefined
  #manifests: ManifestSource | undefined
  session: Session | undefined
  joining = false
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

  constructor(settings: Settings, log: Log) {
    this.settings = settings
    this.#log = log
    this.#edge = hostOf(settings, {
      privateKey: () => this.#store?.identity()?.wireguardPrivateKey ?? '',
      warn: (message) => this.#hostWarnings.add(message)
    })
    this.describe = (op) => this.#edge.describe(op)
  }

  get warnings(): readonly string[] {
    const faults = [...(this.session?.faults ?? [])].map(([part, fault]) => `${part}: ${fault}`)
    const disk = this.session?.control.diskFault
    return [
      ...(this.#store?.warnings ?? []),
      ...this.#hostWarnings,
      ...faults,
      ...(disk === undefined ? [] : [`store: ${disk}`])
    ]
  }

  async start(): Promise<void> {
    const { settings } = this
    this.#admin = await startAdmin({ socket: settings.socket, handlers: this.#handlers(), log: this.#log })
    mkdirSync(settings['state-dir'], { recursive: true, mode: 0o700 })
    this.#store = await openStore({ folder: settings['state-dir'], now: Date.now })
    for (const warning of this.#store.warnings) this.#log.warn(warning)
    const identity = await this.#identity(this.#store)
    this.wireguardKey = wireguardPublicKey(membership.bytes(identity.wireguardPrivateKey)) as WireguardKey
    await this.#startHost()
    if (settings['http-listen'] !== 'off') {
      this.#http = await startHealthHttp({
        listen: settings['http-listen'],
        metrics: this.#metrics,
        notReady: () => answers.notReady(this)
      })
    }
    const known = membership.membershipOf(identity)
    if (known === undefined)
      this.#log.info(
        { socket: settings.socket },
        'in no mesh yet: waiting for `meshctl init` or `meshctl join`'
      )
    else await this.#enter(known, { admitted: true })
    await this.#startSource()
  }

  async stop(): Promise<void> {
    await this.#admin?.stop()
    await this.#manifests?.stop()
    await this.session?.stop()
    await this.#http?.stop()
    await this.host?.stop()
    await this.#store?.close()
  }

  // ------------------------------------------------------------------ parts

  /** The node key is on disk before its first use. */
  async #identity(store: Store) {
    const known = store.identity()
    if (known !== undefined) return known
    const fresh = membership.createIdentity(this.#crypto)
    await store.saveIdentity(fresh)
    return fresh
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
      const { message, fix } = explain(fault)
      this.hostFault = fix === undefined ? message : `${message}; ${fix}`
      this.#log.warn(
        { reason: this.hostFault },
        'no data plane here: control plane and DNS run, `meshctl plan` shows what would be done'
      )
      return
    }
    await host.start()
    this.host = host
  }

  async #startSource(): Promise<void> {
    this.#manifests = createManifestSource({
      folder: this.settings.manifests,
      catalogOptions: () => this.membership ?? {},
      onSnapshot: (snapshot, problems, { whole }) => {
        this.source = { snapshot, problems, whole }
        this.#metrics.sourceSnapshots.inc()
        this.#metrics.sourceProblems.set(problems.length)
        for (const problem of problems) this.#log.warn({ ...problem }, 'manifest')
        this.session?.setSnapshot(snapshot, { whole })
      }
    })
    await this.#manifests.start()
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
    if (this.source.whole) session.setSnapshot(this.source.snapshot, { whole: true })
    this.#manifests?.refresh()
    return session
  }

  // ------------------------------------------------------------------ membership

  async #init(request: InitRequest) {
    return this.#change(async (store) => {
      const identity = await this.#identity(store)
      const next = membership.initMesh(request, {
        crypto: this.#crypto,
        identity,
        nowMs: Date.now(),
        hostNetworks: hostNetworks()
      })
      await store.saveIdentity(next)
      try {
        await this.#enter(membership.pendingMembership(next), { admitted: true })
      } catch (error) {
        await store.saveIdentity(identity)
        throw error
      }
      return answers.joined(this)
    })
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
      hostNetworks: hostNetworks()
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
      bootstrap: made.bootstrap
    }
  }

  async #join({ token }: { token: string }) {
    return this.#change(async (store) => {
      const before = await this.#identity(store)
      const pending = membership.redeemToken(token, {
        crypto: this.#crypto,
        identity: before,
        nowMs: Date.now()
      })
      await store.saveIdentity(pending) // first: a member that accepts us must find us again after a crash
      this.joining = true
      const admitted = Promise.withResolvers<void>()
      admitted.promise.catch(() => undefined) // awaited below; a refusal may come before
      const deadline = setTimeout(() => admitted.reject(this.#unreachable()), JOIN_DEADLINE_MS)
      this.#onHandshake = (outcome) =>
        outcome.kind === 'accepted' ? admitted.resolve() : admitted.reject(membership.refusal(outcome))
      try {
        const session = await this.#enter(membership.pendingMembership(pending), { admitted: false })
        await admitted.promise
        await store.saveIdentity(membership.accepted(pending))
        session.admit()
      } catch (error) {
        const gave = this.session
        this.session = undefined
        this.membership = undefined
        await gave?.stop()
        await store.forget()
        // Only a member's word ends it: where none answered, the token may have got through and is tried again.
        await store.saveIdentity(explain(error).code === 'UNREACHABLE' ? pending : before)
        throw error
      } finally {
        clearTimeout(deadline)
        this.#onHandshake = () => undefined
        this.joining = false
      }
      return answers.joined(this)
    })
  }

  async #leave() {
    const session = this.#session()
    return this.#change(
      async (store) => {
        const cluster = session.control.view().self
        await session.withdraw()
        this.session = undefined
        this.membership = undefined
        await session.stop()
        await this.host?.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
        await store.forget()
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
      status: async () => answers.status(this),
      peers: async () => answers.peers(this, this.#session()),
      services: async () => answers.services(this.#session()),
      routes: async () => answers.routes(this, this.#session()),
      dns: async (query: { name: string | undefined; type: string }) => answers.dns(this.#session(), query),
      plan: async () => answers.plan(this, this.#session()),
      init: (request: InitRequest) => this.#init(request),
      invite: (request: InviteRequest) => this.#invite(request),
      join: (request: JoinRequest) => this.#join(request),
      leave: () => this.#leave()
    }
  }
}

function hostOf(
  settings: Settings,
  options: { readonly privateKey: () => string; readonly warn: (message: string) => void }
): LinuxHost {
  return createHost({
    device: settings.device,
    stateFolder: join(settings['state-dir'], 'host'),
    loadBalancer: settings['load-balancer'],
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
