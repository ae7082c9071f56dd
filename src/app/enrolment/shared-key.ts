// The one key that all gateways of a cluster share through a Secret of its Kubernetes API. The first gateway creates
// the key and writes it into the Secret before it dials a member; the others start with the key from there. Each
// gateway then keeps the Secret up to date.
// core/trust/cluster-secret.ts decides what to do about the content of the Secret, io/kube/shared-secret.ts reads and
// writes it. Two gateways that write at the same time are no danger: each write names the resourceVersion that was
// read, and the second write fails.
import { setTimeout as pause } from 'node:timers/promises'
import { secretMismatch, settleClusterSecret, type SecretVerdict } from '../../core/trust/cluster-secret.ts'
import type { ClusterSecret, SecretReading } from '../../core/trust/cluster-secret-data.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import type { Origin } from '../../core/model/values.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import type { KeyId } from '../../core/trust/set/ids.ts'
import { createSharedSecret, type SharedSecret } from '../../io/kube/shared-secret.ts'
import type { Identity } from '../../io/store/store.ts'
import { AppError, explain } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import { partFault, samePartFault, type PartFault } from '../observe/part-fault.ts'
import { Loop } from '../../io/timing/loop.ts'
import { bytes } from '../identity/encoding.ts'
import { redeemToken } from '../identity/identity.ts'
import { prefixesOf, sharedOf, withShared } from '../identity/shared-identity.ts'

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
  readonly self: () => {
    readonly origin: Origin
    readonly addresses: readonly string[]
    /** The verdict of this agent's trust set on a cluster key. */
    readonly stands: (clusterKey: KeyId) => boolean
  }
  /** Called with the content of the Secret when it has something that this agent lacks. */
  readonly take: (secret: ClusterSecret) => Promise<void>
}

/** The key Secret of one cluster. Exists only with a Kubernetes API; one per process. */
export class SharedKey {
  readonly #secret: SharedSecret
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
    this.#secret = createSharedSecret(options)
    this.#crypto = options.crypto
    this.#log = options.log
    const [namespace, name] = this.#secret.name.split('/')
    this.#emptyIt = `empty it (\`kubectl -n ${namespace} patch secret ${name} --type=merge -p '{"data":null}'\`)`
  }

  /**
   * Returns the key in the Secret; undefined: the cluster has none yet. Errors: KubeError after FIND_MS, AppError
   * CLUSTER_KEY_CORRUPT.
   */
  async find(signal?: AbortSignal): Promise<ClusterSecret | undefined> {
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
    /** The real prefixes of a cluster whose addresses are translated; those of a key in the Secret come first. */
    readonly real?: Prefixes | undefined
  }): Promise<Enrolled> {
    const { before, token, nowMs, real } = options
    const found = await this.find()
    if (found === undefined) {
      if (token === undefined)
        throw new AppError(
          'NO_CLUSTER_KEY',
          `Secret ${this.#secret.name} is empty: this cluster is in no mesh yet`,
          'run `meshctl init` or `meshctl join <token>` on one of its gateways'
        )
      const pending = redeemToken(token, { crypto: this.#crypto, identity: before, nowMs, real })
      await options.save(pending)
      const there = await this.claim(sharedOf(pending, this.#crypto))
      if (equalBytes(there.clusterSeed, bytes(pending.clusterSeed ?? '')))
        return { identity: pending, isMember: false, untilAnswered: pending }
      // Another gateway wrote its key between `find` and `claim`: that key counts, and the one of this agent is
      // dropped.
      await options.save(before)
      return this.#enrolled(before, there, nowMs)
    }
    if (token !== undefined) this.#checkToken(token, found, nowMs)
    return this.#enrolled(before, found, nowMs)
  }

  #enrolled(before: Identity, secret: ClusterSecret, nowMs: number): Enrolled {
    const identity = withShared(before, secret, { crypto: this.#crypto, nowMs })
    return { identity, isMember: secret.membership.kind === 'member', untilAnswered: before }
  }

  /** Called by `init` before it makes a mesh. Errors: those of `find`, AppError CLUSTER_KEY_TAKEN. */
  async expectNone(): Promise<void> {
    const found = await this.find()
    if (found !== undefined) throw this.#taken(found)
  }

  /** Writes the key of a mesh that `init` has made. Errors: those of `expectNone`, AppError CLUSTER_KEY_BUSY. */
  async found(key: ClusterSecret): Promise<void> {
    const there = await this.claim(key)
    if (!equalBytes(there.clusterSeed, key.clusterSeed)) throw this.#taken(there)
  }

  /**
   * Writes this key into the Secret if it is empty. Resolves to the key that the Secret then has: this one, or the key
   * of another gateway that wrote first. Errors: those of `find`, AppError CLUSTER_KEY_BUSY after WRITE_TRIES.
   */
  async claim(key: ClusterSecret): Promise<ClusterSecret> {
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
    throw this.#busy()
  }

  #busy(): AppError {
    const [namespace, name] = this.#secret.name.split('/')
    return new AppError(
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
    if (found.reading.kind !== 'secret') return
    const { membership, clusterSeed } = found.reading.secret
    if (onlyPending && membership.kind !== 'pending') return
    if (!equalBytes(clusterSeed, bytes(identity.clusterSeed ?? ''))) return
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

  /**
   * Writes the admission of this cluster over the pending key, so that a gateway that starts now need not knock. Never
   * rejects: `keep` writes it later.
   */
  async tell(ours: ClusterSecret): Promise<void> {
    try {
      const found = await this.#secret.read()
      const there = found.reading.kind === 'secret' ? found.reading.secret : undefined
      if (there !== undefined && equalBytes(there.clusterSeed, ours.clusterSeed))
        await this.#secret.write(found, { ...ours, bootstrap: there.bootstrap })
    } catch (error) {
      this.#log.warn({ err: error, secret: this.#secret.name }, 'the admission is not in the Secret yet')
    }
  }

  /**
   * Writes the key that replaces the one of `before`, so that the other gateways find it there as soon as they hear of its admission.
   * Errors: those of `find`; AppError CLUSTER_KEY_OTHER when the Secret has another key than `before`, CLUSTER_KEY_BUSY.
   */
  async succeed(before: ClusterSecret, next: ClusterSecret): Promise<void> {
    for (let attempt = 0; attempt < WRITE_TRIES; attempt++) {
      const found = await this.#read()
      const there = this.#keyIn(found.reading)
      if (there !== undefined && !equalBytes(there.clusterSeed, before.clusterSeed))
        throw this.#conflict({ code: 'other', reason: 'holds another key than this agent has' })
      const bootstrap = there?.bootstrap ?? next.bootstrap
      if (await this.#secret.write(found, { ...next, bootstrap })) return
    }
    throw this.#busy()
  }

  /** Compares the Secret now: the key of this agent was replaced, and the Secret may have the new one. */
  hurry(): void {
    this.#keeping?.mark()
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
    const ours = sharedOf(identity, this.#crypto)
    const verdict = settleClusterSecret(ours, found.reading, member.self())
    switch (verdict.kind) {
      case 'agreed':
        this.#setFault(undefined)
        return true
      case 'write':
        if (await this.#secret.write(found, verdict.secret, signal))
          this.#log.info({ secret: this.#secret.name }, 'updated the Secret of the cluster’s key')
        return false
      case 'take':
        await member.take(verdict.secret)
        this.#log.info({ secret: this.#secret.name }, 'took over what the Secret of this cluster has more')
        return false
      case 'wait':
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
  #keyIn(reading: SecretReading): ClusterSecret | undefined {
    switch (reading.kind) {
      case 'secret':
        return reading.secret
      case 'empty':
        return undefined
      case 'corrupt':
        throw this.#conflict({ code: 'corrupt', reason: `cannot be read: ${reading.reason}` })
      default:
        return reading satisfies never
    }
  }

  /**
   * Checks that the token is for the cluster, mesh and prefixes of the key that was found. The date is not checked,
   * because an agent with that key does not need a token. Errors: AppError TOKEN_*, CLUSTER_KEY_MISMATCH.
   */
  #checkToken(text: string, found: ClusterSecret, nowMs: number): void {
    const nowSeconds = Math.floor(nowMs / 1000)
    const token = decodeInviteToken(text, { crypto: this.#crypto, nowSeconds, meshId: undefined })
    if (token.kind === 'refused')
      throw new AppError(codeOfKind('TOKEN', token.code), `token: ${token.message}`, token.fix)
    const { invite, roots } = token
    const other = secretMismatch(found, { roots, membership: { cluster: invite.cluster } })
    if (other !== undefined)
      throw this.#conflict({ code: 'mismatch', reason: `is ${other} as the token says` })
    const has = prefixesOf(found, this.#crypto)
    const says = {
      podPrefixes: invite.pods.map(({ cidr }) => cidr),
      servicePrefixes: invite.services.map(({ cidr }) => cidr)
    }
    for (const kind of ['podPrefixes', 'servicePrefixes'] as const) {
      if (has[kind].join() === says[kind].join()) continue
      throw this.#conflict({
        code: 'mismatch',
        reason: `is for the ${kind === 'podPrefixes' ? 'pod' : 'service'} prefixes ${has[kind].join(', ')}, the token for ${says[kind].join(', ')}`
      })
    }
  }

  /** The AppError for a Secret that already has a key when `init` needs it empty. */
  #taken({ membership }: ClusterSecret): AppError {
    return new AppError(
      'CLUSTER_KEY_TAKEN',
      `Secret ${this.#secret.name} holds the key of cluster ${membership.cluster}: this cluster is in a mesh already`,
      `wait until this agent has joined with that key; or, to give that membership up, ${this.#emptyIt}`
    )
  }

  /**
   * The AppError for a content of the Secret that a person has to correct: CLUSTER_KEY_CORRUPT, CLUSTER_KEY_MISMATCH or
   * CLUSTER_KEY_OTHER.
   */
  #conflict({
    code,
    reason
  }: Pick<Extract<SecretVerdict, { kind: 'conflict' }>, 'code' | 'reason'>): AppError {
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
