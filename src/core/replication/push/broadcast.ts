// Sends new states to the neighbours. In a mesh of up to `directMax` agents, an origin pushes its batches to all
// neighbours; in a larger one, batches are relayed along a tree for each origin (eager-peers.ts). A neighbour that gets
// no push is told the head and pulls.
import type { Origin } from '../../model/values.ts'
import type { Admission } from '../../trust/admission.ts'
import { encodeFrame } from '../../wire/messages.ts'
import { deltaFrames } from '../delta-frames.ts'
import { comparePositions, type Head } from '../head.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'
import { headFrame, type Heads } from '../pull/heads.ts'
import { operationBytes, type Operation } from '../record.ts'
import type { Verdict } from '../delta-verdict.ts'
import type { Replica } from '../replica.ts'
import type { Replicas } from '../replicas.ts'
import { adoptions } from './adoption.ts'
import { Credentials } from './credentials.ts'
import { EagerPeers, type Advice } from './eager-peers.ts'
import { tellingOf } from './telling.ts'

/** A new state of an origin. Without `operations` it is a snapshot, which is never pushed on. */
interface News {
  /** The neighbour that sent it, or this agent. */
  readonly from: Origin
  /** Bytes of operations up to which the batch is pushed. */
  readonly pushBytesMax: number
  /** The operations lead from this seq to the head. */
  readonly fromSeq?: number
  readonly operations?: readonly Operation[]
}

interface BroadcastOptions {
  readonly self: Origin
  readonly admission: Pick<Admission, 'credentialOf'>
  readonly limits: ProtocolLimits
  readonly heads: Heads
  readonly replicas: Replicas
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

/** The sender of new states of one protocol instance. */
export class Broadcast {
  /** Tells of credentials whose origin has no new state. */
  readonly credentials: Credentials
  readonly #options: BroadcastOptions
  readonly #eagerPeers = new EagerPeers()

  constructor(options: BroadcastOptions) {
    this.#options = options
    this.credentials = new Credentials(options)
  }

  /** True in a mesh of more than `directMax` origins: batches are relayed along a tree for each origin. */
  get isEager(): boolean {
    return this.#options.replicas.size > this.#options.limits.directMax
  }

  /** True when a neighbour pushes the batches of this origin to this agent. */
  hasEagerPeer(origin: Origin): boolean {
    return this.#eagerPeers.of(origin).length > 0
  }

  /** Pushes a batch to each neighbour that wants it and is not known to hold it, and tells the others of the head. */
  spread({ origin, head }: Replica, news: News): void {
    if (!head) return
    const { self, heads, neighbours, outbox } = this.#options
    heads.set(head)
    const isOwn = origin === self
    const { isEager } = this
    const push = isOwn || isEager ? this.#pushFrame(head, news) : undefined
    const canPush = push !== undefined
    let tell: Uint8Array | undefined
    for (const { origin: peer, claims, pruned, untold } of neighbours.values()) {
      const claim = claims.get(origin)
      const isKnown = peer === news.from || peer === origin || (!!claim && comparePositions(claim, head) >= 0)
      const telling = tellingOf({ isKnown, canPush, isPruned: pruned.has(origin), isEager, isOwn })
      if (telling === 'later') untold.add(origin)
      else if (telling === 'push' && push) {
        untold.delete(origin)
        outbox.send(peer, push)
      } else if (telling === 'heads') outbox.send(peer, (tell ??= headFrame(head)))
    }
  }

  /**
   * Takes note of a push that was no answer to a pull: the neighbour that delivers a batch first becomes an eager peer
   * (E2).
   */
  pushed(origin: Origin, peer: Origin, verdict: Verdict): void {
    if (verdict.kind === 'applied') this.#follow(origin, this.#eagerPeers.first(origin, peer))
    else if (verdict.kind === 'stale') this.#follow(origin, this.#eagerPeers.again(origin, peer))
  }

  /** Takes note that a new state had to be pulled from `peer`, so the eager peers did not deliver it. */
  pulled(origin: Origin, peer: Origin): void {
    this.#follow(origin, this.#eagerPeers.pulled(origin, peer))
  }

  /**
   * Takes a Prune frame: batches of these origins are not pushed to this neighbour. Names of unknown origins are
   * ignored.
   */
  prune(neighbour: Neighbour, names: readonly string[]): void {
    for (const name of names) {
      const origin = this.#options.replicas.originOf(name)
      if (origin) neighbour.pruned.add(origin)
    }
  }

  /** Takes a Graft frame: batches of these origins are pushed to this neighbour again. */
  graft(neighbour: Neighbour, names: readonly string[]): void {
    for (const name of names) neighbour.pruned.delete(name as Origin)
  }

  /** Asks other neighbours to push the batches that this neighbour, whose connection has ended, pushed. */
  peerDown(gone: Origin): void {
    const orphans = this.#eagerPeers.peerDown(gone)
    if (!this.isEager) return
    const adopted = adoptions(orphans, [...this.#options.neighbours.keys()])
    for (const { origin, peer } of adopted) this.#eagerPeers.adopt(origin, peer)
    for (const [peer, graft] of Map.groupBy(adopted, (adoption) => adoption.peer)) {
      const origins = graft.map(({ origin }) => origin)
      this.#options.outbox.send(peer, encodeFrame({ graft: { origins } }))
    }
  }

  /** Sends the Prune and Graft frames that the eager peers advise. */
  #follow(origin: Origin, { prune, graft }: Advice): void {
    const { outbox } = this.#options
    if (prune !== undefined) outbox.send(prune, encodeFrame({ prune: { origins: [origin] } }))
    if (graft !== undefined) outbox.send(graft, encodeFrame({ graft: { origins: [origin] } }))
  }

  /**
   * Returns the frame of a push; undefined when the batch is too large, because each neighbour then pulls it at its own
   * pace.
   */
  #pushFrame(head: Head, { fromSeq, operations, pushBytesMax }: News): Uint8Array | undefined {
    if (fromSeq === undefined || operations === undefined) return undefined
    const { partBytes } = this.#options.limits
    const bytes = operations.reduce((sum, operation) => sum + operationBytes(operation), 0)
    return bytes > pushBytesMax ? undefined : deltaFrames({ head, fromSeq, operations, partBytes })[0]
  }
}
