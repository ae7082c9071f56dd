// The one key that all gateways of a cluster share through a Secret of its Kubernetes API. The first gateway creates
// the key and writes it into the Secret before it dials a member; the others start with the key from there. Each
// gateway then keeps the Secret up to date.
// core/trust/cluster-key.ts decides what to do about the content of the Secret, io/kube/cluster-key-secret.ts reads and
// writes it. Two gateways that write at the same time are no danger: each write names the resourceVersion that was
// read, and the second write fails.
import { setTimeout as pause } from 'node:timers/promises'
import {
  mismatchOf,
  settleClusterKey,
  type ClusterKey,
  type KeyReading,
  type KeyVerdict
} from '../../core/trust/cluster-key.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
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
import { Loop } from '../../io/timing/loop.ts'
import { bytes } from '../identity/encoding.ts'
import { clusterFields, redeemToken } from '../identity/identity.ts'

// The pause between two checks of a Secret that is in order. Its content matters only to gateways that are added later,
// so a minute is soon enough.
const KEEP_MS = 60_000
// The pause after a fault, or after a write that failed because another gateway wrote in between.
const KEEP_RETRY_MS = 5000
// Milliseconds that a person at a terminal waits for an API server that does not answer.
const FIND_MS = 10_000
const FIND_RETRY_MS = 1000
// Each attempt fails only when another client wrote between read and write, so five failures are a sign of a client
// that writes all the time.
const WRITE_TRIES = 5

/** The identity with which an agent enters the mesh, and what to do with it when no member answers. */
export interface Enrolled {
  readonly identity: Identity
  /** True when a member of the mesh has accepted this key before; false: a member has to accept it now. */
  readonly isMember: boolean
  /**
   * The identity that stays on disk while no member answers: with the pending token for the gateway that made the key,
   * without it for one that read the key from the Secret.
   */
  readonly untilAnswered: Identity
}

/** The running member whose key `keep` compares with the Secret. All values are read anew at each check. */
export interface KeyMember {
  readonly identity: () => Identity | undefined
  /** This agent: its PeerId, and the multiaddrs under which later gateways can dial it. */
  readonly self: () => { readonly origin: Origin; readonly addresses: readonly string[] }
  /** Called with the content of the Secret when it has a later certificate for the key that this agent has. */
  readonly take: (key: ClusterKey) => Promise<void>
}

/** The key Secret of one cluster. Exists only with a Kubernetes API; one per process. */
export class SharedKey {
  readonly #secret: ClusterKeySecret
  readonly #crypto: Crypto
  readonly #log: Log
  /** Part of several fixes: the command that empties the Secret. */
  readonly #emptyIt: string
  /** The present fault of the Secret, which PartWatch puts into the registry of health; undefined: none. */
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

  /**
   * Returns the key in the Secret; undefined: the cluster has none yet. Errors: KubeError after FIND_MS, AppError
   * CLUSTER_KEY_CORRUPT.
   */
  async find(signal?: AbortSignal): Promise<ClusterKey | undefined> {
    return this.#keyIn((await this.#read(signal)).reading)
  }

  /**
   * Returns the identity with which an agent in no mesh enters it. If the Secret has a key, the agent becomes a gateway
   * of that cluster. If the Secret is empty, the agent is the first gateway and makes a key from the token. `save`
   * makes the identity durable; it is called before the key is written to the Secret, where other gateways can see it.
   * Errors: those of `find`, AppError TOKEN_*, PREFIX_HIDES, CLUSTER_KEY_MISMATCH, CLUSTER_KEY_BUSY, NO_CLUSTER_KEY.
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
          'run `meshctl init` or `meshctl join <token>` on one of its gateways'
        )
      const pending = redeemToken(token, { crypto: this.#crypto, identity: before, nowMs })
      await options.save(pending)
      const key = await this.claim(clusterKeyOf(pending, this.#crypto, { pending: true }))
      if (equalBytes(key.seed, bytes(pending.clusterSeed ?? '')))
        return { identity: pending, isMember: false, untilAnswered: pending }
      // Another gateway wrote its key between `find` and `claim`: that key counts, and the one of this agent is
      // dropped.
      await options.save(before)
      return { identity: withClusterKey(before, key, nowMs), isMember: !key.pending, untilAnswered: before }
    }
    if (token !== undefined) this.#checkToken(token, found, nowMs)
    return { identity: withClusterKey(before, found, nowMs), isMember: !found.pending, untilAnswered: before }
  }

  /** Called by `init` before it makes a mesh. Errors: those of `find`, AppError CLUSTER_KEY_TAKEN. */
  async expectNone(): Promise<void> {
    const found = await this.find()
    if (found !== undefined) throw this.#taken(found)
  }

  /** Writes the key of a mesh that `init` has made. Errors: those of `expectNone`, AppError CLUSTER_KEY_BUSY. */
  async found(key: ClusterKey): Promise<void> {
    const there = await this.claim(key)
    if (!equalBytes(there.seed, key.seed)) throw this.#taken(there)
  }

  /**
   * Writes this key into the Secret if it is empty. Resolves to the key that the Secret then has: this one, or the key
   * of another gateway that wrote first. Errors: those of `find`, AppError CLUSTER_KEY_BUSY after WRITE_TRIES.
   */
  async claim(key: ClusterKey): Promise<ClusterKey> {
    for (let attempt = 0; attempt < WRITE_TRIES; attempt++) {
      const found = await this.#read()
      const there = this.#keyIn(found.reading)
      if (there !== undefined) {
        this.#log.info({ secret: this.#secret.name }, 'another gateway of this cluster created the key first')
        return there
      }
      if (await this.#secret.write(found, key)) {
        this.#log.info({ secret: this.#secret.name }, 'wrote the key of this cluster to its Secret')
        return key
      }
    }
    const [namespace, name] = this.#secret.name.split('/')
    throw new AppError(
      'CLUSTER_KEY_BUSY',
      `other clients changed Secret ${this.#secret.name} during each of ${WRITE_TRIES} attempts to write it`,
      `find the client that writes it (\`kubectl -n ${namespace} get secret ${name} --show-managed-fields -o yaml\`), then try again`
    )
  }

  /**
   * Empties the Secret if it has the key of `identity`. `onlyPending`: not if a member has accepted the key. Errors:
   * KubeError.
   */
  async remove(identity: Identity, { onlyPending }: { readonly onlyPending: boolean }): Promise<void> {
    const found = await this.#secret.read()
    if (found.reading.kind !== 'key' || (onlyPending && !found.reading.key.pending)) return
    if (!equalBytes(found.reading.key.seed, bytes(identity.clusterSeed ?? ''))) return
    await this.#secret.write(found, undefined)
  }

  /**
   * Calls `remove` after a join that the mesh has refused, and after an init that failed. Never rejects: a failure is
   * logged, and the key stays in the Secret.
   */
  async retract(identity: Identity, options: { readonly onlyPending: boolean }): Promise<void> {
    try {
      await this.remove(identity, options)
    } catch (error) {
      this.#log.warn(
        { err: error, secret: this.#secret.name },
        'the key could not be removed from its Secret'
      )
    }
  }

  /** Compares the Secret with the member every KEEP_MS until `rest` is called. A second call does nothing. */
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

  /** Ends `keep`; resolves when no check is under way any more. Called when the agent stops or leaves the mesh. */
  async stop(): Promise<void> {
    const keeping = this.#keeping
    this.#keeping = undefined
    await keeping?.stop()
    this.fault = undefined
  }

  /**
   * One check of the Secret. Resolves to true when the Secret and this agent agree; false asks for another check after
   * KEEP_RETRY_MS.
   */
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
          this.#log.info({ secret: this.#secret.name }, 'updated the Secret of the cluster’s key')
        return false
      case 'take':
        await member.take(verdict.key)
        this.#log.info(
          { secret: this.#secret.name },
          'took over a later certificate of this cluster from its Secret'
        )
        return false
      case 'conflict':
        this.#setFault(this.#conflict(verdict))
        return false
      default:
        return verdict satisfies never
    }
  }

  /**
   * Reads the Secret. While the API server does not answer, the read is repeated every FIND_RETRY_MS, for FIND_MS in
   * all. Errors: KubeError.
   */
  async #read(signal = AbortSignal.timeout(FIND_MS)) {
    for (;;) {
      try {
        const found = await this.#secret.read(signal)
        this.#setFault(undefined)
        return found
      } catch (error) {
        this.#setFault(error)
        // Other errors, such as missing rights, do not pass by themselves.
        if (signal.aborted || !['NETWORK', 'SERVER_FAILED', 'TIMEOUT'].includes(explain(error).code))
          throw error
        await pause(FIND_RETRY_MS, undefined, { signal, ref: false }).catch(() => undefined)
      }
    }
  }

  /** Returns the key in a Secret; undefined: the Secret is empty. Errors: AppError CLUSTER_KEY_CORRUPT. */
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

  /**
   * Checks that the token is for the cluster, mesh and prefixes of the key that was found. An expired token is ignored,
   * because an agent with that key does not need one. Errors: AppError TOKEN_*, CLUSTER_KEY_MISMATCH.
   */
  #checkToken(text: string, found: ClusterKey, nowMs: number): void {
    const nowSeconds = Math.floor(nowMs / 1000)
    const token = decodeToken(text, { crypto: this.#crypto, nowSeconds, meshId: undefined })
    if (token.kind === 'refused') {
      if (token.code === 'expired') return
      throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
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

  /** The AppError for a Secret that already has a key when `init` needs it empty. */
  #taken({ chain }: ClusterKey): AppError {
    return new AppError(
      'CLUSTER_KEY_TAKEN',
      `Secret ${this.#secret.name} holds the key of cluster ${chain.cluster}: this cluster is in a mesh already`,
      `wait until this agent has joined with that key; or, to give that membership up, ${this.#emptyIt}`
    )
  }

  /**
   * The AppError for a content of the Secret that a person has to correct: CLUSTER_KEY_CORRUPT, CLUSTER_KEY_MISMATCH or
   * CLUSTER_KEY_OTHER.
   */
  #conflict({ code, reason }: Pick<Extract<KeyVerdict, { kind: 'conflict' }>, 'code' | 'reason'>): AppError {
    const fixes = {
      corrupt: `restore it, or ${this.#emptyIt}: a gateway that is in the mesh writes it again`,
      mismatch: `use a token of that cluster; or, to give that membership up, ${this.#emptyIt}`,
      other: 'run `meshctl leave` on this agent, then restart it: it joins with the key in the Secret'
    }
    const message = `Secret ${this.#secret.name} ${reason}`
    return new AppError(codeOfKind('CLUSTER_KEY', code), message, fixes[code])
  }

  /**
   * Keeps the fault, and logs it when its text changes. No error of this tree quotes a secret, so the log does not have
   * one either.
   */
  #setFault(error: unknown): void {
    const fault = error === undefined ? undefined : partFault('cluster key', error)
    if (fault !== undefined && !samePartFault(fault, this.fault))
      this.#log.warn({ err: error, secret: this.#secret.name }, 'the Secret of the cluster’s key has a fault')
    this.fault = fault
  }
}

/**
 * The key of an identity that is in a mesh, in the form that the Secret holds. `pending`: no member has accepted it
 * yet. Throws a plain Error when the chain of the identity does not verify, which is a fault of the program or of the
 * disk.
 */
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

/**
 * Returns the identity with the key and certificate of the cluster. Its other fields stay, for example the PeerId, the
 * root key and the open invites; the pending token is removed. `nowMs`: Unix milliseconds.
 */
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
    ...clusterFields({ chain, clusterSeed: seed, bootstrap })
  }
}
