// A real agent without a data plane in this process, as far as joining goes: its store on disk, its Secret, its session on
// loopback. It notes each write of its own that lasts, and ends before or after one of them as by `kill -9`: from then on
// nothing that it does reaches disk or Secret, and no frame of a session that runs reaches the network. (A session that is
// still starting may send: then the death of the network comes a moment after that of the disk.)
import { mkdirSync, rmSync } from 'node:fs'
import { Enrolment } from '../../../src/app/enrolment/enrolment.ts'
import { SharedKey } from '../../../src/app/enrolment/shared-key.ts'
import { NodeIdentity } from '../../../src/app/identity/node-identity.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import { CurrentSession } from '../../../src/app/session/current-session.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import type { KubeApi } from '../../../src/core/kube/kube-api.ts'
import { decodeStatementBody, decodeTrustItem } from '../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore, type Identity, type Store, type StoredStatement } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { SILENT } from '../control/trust-parts.ts'

/** One write of an agent, such as "identity pending #0": what it writes, and how many of this name came before. */
export type Point = `${string} #${number}`

/** Where an agent ends. `before`: the write is not done; `after`: it is on disk, and the agent does nothing more. */
export interface Death {
  readonly point: Point
  readonly when: 'before' | 'after'
}

interface MortalOptions {
  readonly folder: string
  /** The API server of its cluster; undefined: no Kubernetes. */
  readonly secrets: KubeApi | undefined
  /** The port of control connections; 0: any free one. */
  readonly port: number
}

const crypto = createCrypto()

/** The name of each write of a store, by its method. */
const NAMES: { readonly [method: string]: (...args: never[]) => string } = {
  saveIdentity: (identity: Identity) => `identity ${stageOf(identity)}`,
  saveCounters: () => 'counters',
  saveTrust: (statements: readonly StoredStatement[]) => `trust: ${kindOf(statements)}`,
  removeTrust: () => 'trust removed',
  saveOwners: () => 'owners',
  saveGenerations: () => 'generations',
  persist: () => 'records',
  persistPart: () => 'part',
  dropParts: () => 'parts dropped',
  removeOrigin: () => 'origin removed',
  forget: () => 'forget'
}

/** One run of an agent, from its start to its end; see the head of this file. */
export class MortalAgent {
  /** The writes of this run, in their order. */
  readonly points: Point[] = []
  /** Resolves when the death that was asked for has come. */
  readonly died: Promise<void>
  readonly current = new CurrentSession()
  readonly #options: MortalOptions
  #death: Death | undefined
  readonly #resolveDied: () => void
  /** Writes that the disk has begun. */
  readonly #writing = new Set<Promise<unknown>>()
  #isDead = false
  #joining = false
  #disk: Store | undefined
  /** The disk as the agent sees it: it notes each write, and may end the agent. */
  #store: Store | undefined
  #sharedKey: SharedKey | undefined
  #enrolment: Enrolment | undefined

  /** Ends it at `death`, if that point comes. */
  constructor(options: MortalOptions, death?: Death) {
    const { promise, resolve } = Promise.withResolvers<void>()
    ;[this.died, this.#resolveDied] = [promise, resolve]
    this.#options = options
    this.#death = death
  }

  get isDead(): boolean {
    return this.#isDead
  }

  /** True between the beginning of the write that is its last one, and its death. */
  get isDying(): boolean {
    return !this.#isDead && this.#death !== undefined && this.points.includes(this.#death.point)
  }

  get isStarted(): boolean {
    return this.#enrolment !== undefined
  }

  get control() {
    return this.current.required().control
  }

  get identity(): Identity {
    const identity = this.#disk?.identity()
    if (identity === undefined) throw new Error('this agent has no identity')
    return identity
  }

  get store(): Store {
    if (this.#store === undefined) throw new Error('this agent has not started')
    return this.#store
  }

  get sharedKey(): SharedKey | undefined {
    return this.#sharedKey
  }

  get enrolment(): Enrolment {
    if (this.#enrolment === undefined) throw new Error('this agent has not started')
    return this.#enrolment
  }

  /** Starts on what is on disk. Resolves to whether it is in a mesh. Errors: "killed". */
  async start(): Promise<boolean> {
    const { secrets, folder, port } = this.#options
    mkdirSync(folder, { recursive: true })
    this.#disk = await openStore({ folder, now: Date.now })
    const store = this.#mortal(this.#disk)
    this.#store = store
    const node = await NodeIdentity.open(store, crypto)
    this.#sharedKey =
      secrets && new SharedKey({ api: this.#mortalApi(secrets), namespace: 'mesh', crypto, log: SILENT })
    this.#enrolment = new Enrolment({
      rootKeys: { clear: () => undefined },
      current: this.current,
      node,
      crypto,
      store,
      health: new Health({ log: SILENT, now: Date.now }),
      metrics: createMetrics(),
      settings: settingsOf(folder, port),
      sharedKey: this.#sharedKey,
      log: SILENT,
      host: undefined,
      gateways: { clear: async () => undefined } as never,
      podDns: undefined,
      ownObjects: undefined,
      facts: { tell: () => undefined } as never,
      source: {
        refresh: () => undefined,
        campaign: () => undefined,
        resign: async () => undefined,
        discover: async () => ({ podPrefixes: [], servicePrefixes: [], isWholeCluster: true })
      } as never
    })
    return this.#enrolment.resume()
  }

  /** Joins with a token. Errors: those of Enrolment.join, "killed". */
  async join(token: string): Promise<void> {
    this.#joining = true
    try {
      await this.enrolment.join({ token })
    } finally {
      this.#joining = false
    }
  }

  /** Ends it in good order, or takes away what is left of a dead one. What is on disk stays. */
  async stop(): Promise<void> {
    // The session of a dead agent may have been on its way: it comes, or its start fails.
    await eventually(() => this.current.session !== undefined || !this.#joining)
    if (this.#isDead) this.#mute()
    await this.#sharedKey?.stop()
    await this.current.session?.stop()
    this.#isDead = true
    await Promise.allSettled(this.#writing)
    await this.#disk?.close()
  }

  /** Lets it live although its point has not come. */
  spare(): void {
    this.#death = undefined
  }

  /** Notes a write, and does it unless this agent is dead or dies before it. */
  async #write<T>(name: string, act: () => Promise<T>): Promise<T> {
    if (this.#isDead) throw new Error('killed')
    const point: Point = `${name} #${this.points.filter((one) => one.startsWith(`${name} #`)).length}`
    this.points.push(point)
    const isLast = this.#death?.point === point
    if (isLast && this.#death?.when === 'before') this.#die()
    if (this.#isDead) throw new Error('killed')
    const writing = act()
    this.#writing.add(writing)
    try {
      const result = await writing
      if (isLast) this.#die()
      if (this.#isDead) throw new Error('killed')
      return result
    } finally {
      this.#writing.delete(writing)
    }
  }

  #die(): void {
    this.#isDead = true
    this.#mute()
    this.#resolveDied()
  }

  #mute(): void {
    const transport = this.current.session?.control.transport
    if (transport !== undefined) {
      transport.send = () => false
      void transport.stop()
    }
  }

  #mortal(disk: Store): Store {
    return new Proxy(disk, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property)
        if (typeof value !== 'function') return value
        if (property === 'changeIdentity')
          return (change: Parameters<Store['changeIdentity']>[0]) => {
            const next = target.identity()
            const name = next === undefined ? 'identity of none' : `identity ${stageOf(change(next))}`
            return this.#write(name, () => target.changeIdentity(change))
          }
        const nameOf = NAMES[String(property)]
        const call = (...args: never[]): unknown => Reflect.apply(value, target, args)
        if (nameOf === undefined) return call
        return (...args: never[]) => this.#write(nameOf(...args), async () => call(...args))
      }
    })
  }

  #mortalApi(api: KubeApi): KubeApi {
    return {
      request: (call) => {
        if (this.#isDead) return Promise.reject(new Error('killed'))
        if (call.method !== 'PUT') return api.request(call)
        const { data = {} } = call.body as { readonly data?: Readonly<Record<string, string>> }
        const what =
          data['clusterSeed'] === undefined
            ? 'emptied'
            : data['inviteSeed'] === undefined
              ? 'member'
              : 'pending'
        return this.#write(`Secret ${what}`, () => api.request(call))
      }
    }
  }
}

// Below the ports that Linux gives to outgoing connections (32768), so that none of them takes the port of an agent while
// it starts again.

/** Loses the disk of an agent that does not run. */
export function burn(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
}

/** No data plane, no DNS, no probe: what is left is the control plane on loopback. */
function settingsOf(folder: string, port: number) {
  return resolveSettings({
    flags: {
      listen: `/ip4/127.0.0.1/tcp/${port}`,
      'dns-listen': 'off',
      'feed-listen': 'off',
      'probe-port': '0',
      'state-dir': folder
    },
    env: {},
    file: undefined
  })
}

/** How far a join has come in an identity. */
function stageOf({ clusterItem, pending, certified }: Identity): string {
  const stage = clusterItem === undefined ? (pending === undefined ? 'of no mesh' : 'pending') : 'member'
  return certified === undefined ? stage : `${stage}, certified`
}

/** "admission" when one of the statements of a write is one: how many others it has depends on timers. Else "others". */
function kindOf(statements: readonly StoredStatement[]): string {
  const isAdmission = ({ item }: StoredStatement): boolean => {
    const body = decodeTrustItem(item)?.statements.at(-1)?.body
    return body !== undefined && decodeStatementBody(body)?.admission !== null
  }
  return statements.some(isAdmission) ? 'admission' : 'others'
}
