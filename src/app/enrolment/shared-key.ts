// One key for all gateways of a cluster, where it has a Kubernetes API: the first makes it and puts it into a Secret before anybody
// hears of it, the others come up with it, and each keeps the Secret as it should be (src/core/trust/cluster-key.ts decides).
import { setTimeout as pause } from 'node:timers/promises'
import {
  mismatchOf,
  settleClusterKey,
  type ClusterKey,
  type KeyReading,
  type KeyVerdict
} from '../../core/trust/cluster-key.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { Origin } from '../../core/model/values.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import { verifyChain } from '../../core/trust/chain.ts'
import { decodeToken } from '../../core/trust/token.ts'
import { createClusterKeySecret, type ClusterKeySecret } from '../../io/kube/cluster-key-secret.ts'
import type { Identity } from '../../io/store/store.ts'
import { AppError, explain } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import { Loop } from '../observe/loop.ts'
import { base64, bytes } from '../identity/encoding.ts'
import { redeemToken } from '../identity/identity.ts'

// Nothing here is urgent: what is in the Secret matters to gateways that come later.
const KEEP_MS = 60_000
// While something is wrong, or somebody else wrote in between.
const KEEP_RETRY_MS = 5000
// How long a person at a terminal waits for an API server that is away.
const FIND_MS = 10_000
const FIND_RETRY_MS = 1000
// Each time somebody else wrote first.
const WRITE_TRIES = 5

export interface Enrolled {
  readonly identity: Identity
  /** The mesh knows this key: there is nobody to be accepted by. */
  readonly isMember: boolean
  /** What stays on disk while no member answers. */
  readonly untilAnswered: Identity
}

export interface KeyMember {
  readonly identity: () => Identity | undefined
  readonly self: () => { readonly origin: Origin; readonly addresses: readonly string[] }
  /** A later certificate for the key that this agent has. */
  readonly take: (key: ClusterKey) => Promise<void>
}

export class SharedKey {
  readonly #secret: ClusterKeySecret
  readonly #crypto: Crypto
  readonly #log: Log
  /** Says what to do about it. */
  readonly #emptyIt: string
  fault: PartFault | undefined
  #keeping: Loop | undefined

  constructor(options: {
    readonly api: KubeApi
    readonly namespace: string
    readonly crypto: Crypto
    readonly log: Log
  }) {
    this.#secret = createClusterKeySecret(options)
    this.#crypto = options.crypto
    this.#log = options.log
    const [namespace, name] = this.#secret.name.split('/')
    this.#emptyIt = `empty it (\`kubectl -n ${namespace} patch secret ${name} --type=merge -p '{"data":null}'\`)`
  }

  /** undefined: this cluster has no key yet. Errors: KubeError after FIND_MS, AppError CLUSTER_KEY_CORRUPT. */
  async find(signal?: AbortSignal): Promise<ClusterKey | undefined> {
    return this.#keyIn((await this.#read(signal)).reading)
  }

  /**
   * Who an agent in no mesh is to be: a gateway of the cluster whose key is in the Secret, or the first one, with the key that it makes
   * of the token. `save`: makes that durable before others can see it.
   * Errors: those of `find`, AppError TOKEN_*, CLUSTER_KEY_MISMATCH, NO_CLUSTER_KEY.
   */
  async enrol(options: {
    readonly before: Identity
    readonly token: string | undefined
    readonly nowMs: number
    readonly save: (identity: Identity) => Promise<void>
  }): Promise<Enrolled> {
    const { before, token, nowMs } = options
    const found = await this.find()
    if (found === undefined) {
      if (token === undefined)
        throw new AppError(
          'NO_CLUSTER_KEY',
          `Secret ${this.#secret.name} is empty: this cluster is in no mesh yet`,
          '`meshctl init` or `meshctl join <token>` on one of its gateways'
        )
      const pending = redeemToken(token, { crypto: this.#crypto, identity: before, nowMs })
      await options.save(pending)
      const key = await this.claim(clusterKeyOf(pending, this.#crypto, { pending: true }))
      if (equalBytes(key.seed, bytes(pending.clusterSeed ?? '')))
        return { identity: pending, isMember: false, untilAnswered: pending }
      await options.save(before)
      return { identity: withClusterKey(before, key, nowMs), isMember: !key.pending, untilAnswered: before }
    }
    if (token !== undefined) this.#checkToken(token, found, nowMs)
    return { identity: withClusterKey(before, found, nowMs), isMember: !found.pending, untilAnswered: before }
  }

  /** For who makes a mesh. Errors: those of `find`, AppError CLUSTER_KEY_TAKEN. */
  async expectNone(): Promise<void> {
    const found = await this.find()
    if (found !== undefined) throw this.#taken(found)
  }

  /** The key of a mesh that was made here. Errors: those of `expectNone`. */
  async found(key: ClusterKey): Promise<void> {
    const there = await this.claim(key)
    if (!equalBytes(there.seed, key.seed)) throw this.#taken(there)
  }

  /** Puts this key into an empty Secret. Resolves to the key that is there then: this one, or that of a gateway that was quicker. */
  async claim(key: ClusterKey): Promise<ClusterKey> {
    for (let attempt = 0; attempt < WRITE_TRIES; attempt++) {
      const found = await this.#read()
      const there = this.#keyIn(found.reading)
      if (there !== undefined) {
        this.#log.info({ secret: this.#secret.name }, 'another gateway of this cluster was quicker')
        return there
      }
      if (await this.#secret.write(found, key)) {
        this.#log.info({ secret: this.#secret.name }, 'the key of this cluster is in its Secret')
        return key
      }
    }
    throw new AppError(
      'CLUSTER_KEY_BUSY',
      `Secret ${this.#secret.name} was changed by others ${WRITE_TRIES} times in a row`,
      'see who writes there, then try again'
    )
  }

  /** No gateway is to come up with this key any more: the mesh refused it, or the last gateway has left. */
  async retract(identity: Identity, { onlyPending }: { readonly onlyPending: boolean }): Promise<void> {
    try {
      const found = await this.#secret.read()
      if (found.reading.kind !== 'key' || (onlyPending && !found.reading.key.pending)) return
      if (!equalBytes(found.reading.key.seed, bytes(identity.clusterSeed ?? ''))) return
      await this.#secret.write(found, undefined)
    } catch (error) {
      this.#log.warn({ err: error, secret: this.#secret.name }, 'the key stays in its Secret')
    }
  }

  /** Looks now and then, until `rest`. */
  keep(member: KeyMember): void {
    if (this.#keeping !== undefined) return
    this.#keeping = new Loop({
      act: async (signal) => ((await this.#look(member, signal)) ? KEEP_MS : KEEP_RETRY_MS),
      intervalMs: KEEP_MS,
      retryMs: KEEP_RETRY_MS,
      onError: (error) => this.#setFault(error),
      keepsProcess: false
    })
    this.#keeping.start()
  }

  async rest(): Promise<void> {
    const keeping = this.#keeping
    this.#keeping = undefined
    await keeping?.stop()
    this.fault = undefined
  }

  /** True when there was nothing to do. */
  async #look(member: KeyMember, signal: AbortSignal): Promise<boolean> {
    const identity = member.identity()
    if (identity === undefined) return true
    const found = await this.#secret.read(signal)
    const ours = clusterKeyOf(identity, this.#crypto, { pending: false })
    const verdict = settleClusterKey(ours, found.reading, member.self())
    switch (verdict.kind) {
      case 'agreed':
        this.#setFault(undefined)
        return true
      case 'write':
        if (await this.#secret.write(found, verdict.key, signal))
          this.#log.info(
            { secret: this.#secret.name },
            'the Secret of the cluster’s key is brought up to date'
          )
        return false
      case 'take':
        await member.take(verdict.key)
        this.#log.info({ secret: this.#secret.name }, 'a later certificate of this cluster is used')
        return false
      case 'conflict':
        this.#setFault(this.#conflict(verdict))
        return false
      default:
        return verdict satisfies never
    }
  }

  /** Bounded: an API server that is away is asked again for a while. */
  async #read(signal = AbortSignal.timeout(FIND_MS)) {
    for (;;) {
      try {
        const found = await this.#secret.read(signal)
        this.#setFault(undefined)
        return found
      } catch (error) {
        this.#setFault(error)
        // Only what may pass by itself is worth waiting for.
        if (signal.aborted || !['NETWORK', 'SERVER_FAILED', 'TIMEOUT'].includes(explain(error).code))
          throw error
        await pause(FIND_RETRY_MS, undefined, { signal, ref: false }).catch(() => undefined)
      }
    }
  }

  #keyIn(reading: KeyReading): ClusterKey | undefined {
    switch (reading.kind) {
      case 'key':
        return reading.key
      case 'empty':
        return undefined
      case 'corrupt':
        throw this.#conflict({ code: 'corrupt', reason: `cannot be read: ${reading.reason}` })
      default:
        return reading satisfies never
    }
  }

  /** A token that has expired is as good as none: the key that is there does not need it. */
  #checkToken(text: string, found: ClusterKey, nowMs: number): void {
    const nowSeconds = Math.floor(nowMs / 1000)
    const token = decodeToken(text, { crypto: this.#crypto, nowSeconds, meshId: undefined })
    if (token.kind === 'refused') {
      if (token.code === 'expired') return
      throw new AppError(`TOKEN_${token.code.toUpperCase()}`, `token: ${token.message}`, token.fix)
    }
    const { invite } = token
    const other = mismatchOf(found.chain, invite)
    if (other !== undefined)
      throw this.#conflict({ code: 'mismatch', reason: `is ${other} as the token says` })
    for (const kind of ['podPrefixes', 'servicePrefixes'] as const) {
      if (found.chain[kind].join() === invite[kind].join()) continue
      const [has, says] = [found.chain[kind].join(', '), invite[kind].join(', ')]
      throw this.#conflict({
        code: 'mismatch',
        reason: `is for the ${kind === 'podPrefixes' ? 'pod' : 'service'} prefixes ${has}, the token for ${says}`
      })
    }
  }

  #taken({ chain }: ClusterKey): AppError {
    return new AppError(
      'CLUSTER_KEY_TAKEN',
      `Secret ${this.#secret.name} holds the key of cluster ${chain.cluster}: this cluster is in a mesh already`,
      `wait for this agent to come up with it; or, to give that membership up, ${this.#emptyIt}`
    )
  }

  #conflict({ code, reason }: Pick<Extract<KeyVerdict, { kind: 'conflict' }>, 'code' | 'reason'>): AppError {
    const fixes = {
      corrupt: `restore it, or ${this.#emptyIt}: a gateway that is in the mesh writes it again`,
      mismatch: `use a token of that cluster; or, to give that membership up, ${this.#emptyIt}`,
      otherKey: '`meshctl leave` on this agent, then restart it: it comes up with the key of the others'
    }
    const message = `Secret ${this.#secret.name} ${reason}`
    return new AppError(
      `CLUSTER_KEY_${code === 'otherKey' ? 'OTHER' : code.toUpperCase()}`,
      message,
      fixes[code]
    )
  }

  /** Logged when it changes; an error of this tree never quotes a secret. */
  #setFault(error: unknown): void {
    const fault = error === undefined ? undefined : partFault('cluster key', error)
    if (fault !== undefined && !samePartFault(fault, this.fault))
      this.#log.warn({ err: error, secret: this.#secret.name }, 'the Secret of the cluster’s key')
    this.fault = fault
  }
}

/** Of an identity that has one. */
export function clusterKeyOf(
  identity: Identity,
  crypto: Crypto,
  { pending }: { readonly pending: boolean }
): ClusterKey {
  const seed = bytes(identity.clusterSeed ?? '')
  const chain = verifyChain(bytes(identity.clusterChain ?? ''), {
    crypto,
    meshId: undefined,
    upTo: 'CLUSTER'
  })
  if (chain.kind === 'refused') throw new Error(`our own cluster chain does not verify: ${chain.reason}`)
  return { seed, chain, pending, bootstrap: identity.bootstrap ?? [] }
}

/** This agent, with the key and certificate of its cluster; what else it knows, a root key for instance, it keeps. */
export function withClusterKey(
  identity: Identity,
  { seed, chain, bootstrap }: ClusterKey,
  nowMs: number
): Identity {
  const { ...kept } = identity
  delete kept.pendingToken
  return {
    joinedBy: 'token',
    joinedAtMs: nowMs,
    ...kept,
    meshId: base64(chain.meshId),
    cluster: chain.cluster,
    clusterSeed: base64(seed),
    clusterChain: base64(chain.bytes),
    podPrefixes: [...chain.podPrefixes],
    servicePrefixes: [...chain.servicePrefixes],
    bootstrap: [...bootstrap]
  }
}
