// Answers the questions of neighbours: which ids, and which statements. Each answer is bounded, and each neighbour has a
// budget; a question beyond it is not answered, and its asker asks again.
import type { ShortId } from '../set/ids.ts'
import type { ExchangeSet } from './effects.ts'
import { idsFrame, itemsFrames } from './frames.ts'
import type { ExchangeLimits } from './limits.ts'
import type { Neighbour } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { SetIndex } from './set-index.ts'

interface ServerParts {
  readonly set: ExchangeSet
  readonly index: SetIndex
  readonly limits: ExchangeLimits
  readonly outbox: Outbox
}

/** The answers of one exchange. */
export class Server {
  readonly #parts: ServerParts

  constructor(parts: ServerParts) {
    this.#parts = parts
  }

  /** Answers TrustDigests with one part of the differing ids. */
  answerDigests(
    { peer, questions }: Neighbour,
    { digests, from }: { readonly digests: Uint8Array; readonly from: number },
    nowMs: number
  ): void {
    const { index, limits, outbox } = this.#parts
    if (!questions.take(nowMs)) return outbox.refuse(peer, 'too many questions')
    const { ids, next } = index.differing(digests, from, limits.idsOfFrame)
    outbox.send(peer, idsFrame(ids, next))
  }

  /** Answers TrustWant with the items that fit into the bound of one answer and into the budget. */
  answerWant({ peer, served }: Neighbour, ids: readonly ShortId[], nowMs: number): void {
    const { set, index, limits, outbox } = this.#parts
    const items: Uint8Array[] = []
    let bytes = 0
    for (const id of ids) {
      const whole = index.idOf(id)
      const item = whole && set.itemOf(whole)
      if (item === undefined) continue
      bytes += item.length
      if (bytes > limits.answerBytes || !served.take(nowMs)) break
      items.push(item)
    }
    for (const frame of itemsFrames(items, true, limits)) outbox.send(peer, frame)
  }
}
