// News goes out: batches are pushed to all neighbours of a small mesh, and along a tree for each origin in a larger one.
import type { Origin } from '../../model/values.ts'
import { encodeFrame } from '../../wire/messages.ts'
import { deltaFrames } from '../delta-frames.ts'
import { comparePositions, type Head } from '../head.ts'
import type { ProtocolLimits } from '../limits.ts'
import type { Neighbour } from '../neighbour.ts'
import type { Outbox } from '../outbox.ts'
import { headFrame, type Heads } from '../pull/heads.ts'
import { operationBytes, type Operation } from '../record.ts'
import type { Replica, Verdict } from '../replica.ts'
import type { Replicas } from '../replicas.ts'
import { adoptions } from './adoption.ts'
import { EagerPeers, type Advice } from './eager-peers.ts'
import { tellingOf } from './telling.ts'

/** A new state of an origin, as it came. Without operations: a whole one, which is never pushed on. */
interface News {
  readonly from: Origin
  readonly pushBytesMax: number
  readonly fromSeq?: number
  readonly operations?: readonly Operation[]
}

interface BroadcastOptions {
  readonly self: Origin
  readonly limits: ProtocolLimits
  readonly heads: Heads
  readonly replicas: Replicas
  readonly neighbours: ReadonlyMap<Origin, Neighbour>
  readonly outbox: Outbox
}

export class Broadcast {
  readonly #options: BroadcastOptions
  readonly #eagerPeers = new EagerPeers()

  constructor(options: BroadcastOptions) {
    this.#options = options
  }

  /** The mesh is large: batches are pushed on along a tree for each origin. */
  get isEager(): boolean {
    return this.#options.replicas.size > this.#options.limits.directMax
  }

  /** A neighbour was asked to push the batches of this origin. */
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

  /** A push that was not asked for: the tree of its origin follows the first bearer of news. */
  pushed(origin: Origin, peer: Origin, verdict: Verdict): void {
    if (verdict.kind === 'applied') this.#follow(origin, this.#eagerPeers.first(origin, peer))
    else if (verdict.kind === 'stale') this.#follow(origin, this.#eagerPeers.again(origin, peer))
  }

  /** News had to be pulled from `peer`. */
  pulled(origin: Origin, peer: Origin): void {
    this.#follow(origin, this.#eagerPeers.pulled(origin, peer))
  }

  /** A neighbour asks not to be pushed to. Names of origins that are not held are ignored. */
  prune(neighbour: Neighbour, names: readonly string[]): void {
    for (const name of names) {
      const origin = this.#options.replicas.originOf(name)
      if (origin) neighbour.pruned.add(origin)
    }
  }

  /** A neighbour asks to be pushed to again. */
  graft(neighbour: Neighbour, names: readonly string[]): void {
    for (const name of names) neighbour.pruned.delete(name as Origin)
  }

  /** Asks other neighbours to push the batches that this one pushed. */
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

  #follow(origin: Origin, { prune, graft }: Advice): void {
    const { outbox } = this.#options
    if (prune !== undefined) outbox.send(prune, encodeFrame({ prune: { origins: [origin] } }))
    if (graft !== undefined) outbox.send(graft, encodeFrame({ graft: { origins: [origin] } }))
  }

  /** Undefined for what is too large: each neighbour pulls it at its own pace. */
  #pushFrame(head: Head, { fromSeq, operations, pushBytesMax }: News): Uint8Array | undefined {
    if (fromSeq === undefined || operations === undefined) return undefined
    const { partBytes } = this.#options.limits
    const bytes = operations.reduce((sum, operation) => sum + operationBytes(operation), 0)
    return bytes > pushBytesMax ? undefined : deltaFrames({ head, fromSeq, operations, partBytes })[0]
  }
}
