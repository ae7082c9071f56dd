// Pulls what neighbours have and this set lacks: digests, ids, bodies. A comparison (round) begins when the heads have
// differed for a while, and at once after connecting.
// Invariants
//   1. One question and one TrustWant are under way for each neighbour, and a statement is asked of one neighbour at a
//      time. What has not come within `answerMs` is free for the others, so n neighbours that withhold a statement
//      delay it by n times that time at most.
//   2. Nothing is asked while the neighbour's queue is long. So what is asked for finds room, and the budget of the
//      verification paces the questions.
//   3. Few comparisons are under way at a time, each for at most `roundLimitMs`; the neighbour that waits longest comes
//      next. So the look through the ids of all of them costs no call more than 1 or 2 ms.
//   4. While sets differ and nothing changes, comparisons become rarer, down to one in `roundMaxMs`.
import { bytesKey, equalBytes } from '../../model/bytes.ts'
import type { Origin } from '../../model/values.ts'
import type { ShortId } from '../set/ids.ts'
import { digestsFrame, wantFrame } from './frames.ts'
import type { Intake } from './intake.ts'
import type { ExchangeLimits } from './limits.ts'
import type { Neighbour, Round } from './neighbour.ts'
import type { Outbox } from './outbox.ts'
import type { SetIndex } from './set-index.ts'

interface PullParts {
  readonly index: SetIndex
  readonly intake: Intake
  readonly limits: ExchangeLimits
  readonly outbox: Outbox
}

/** The pulls of one exchange. */
export class Pulls {
  readonly #parts: PullParts
  /** Which neighbour is asked for a statement (invariant 1). */
  readonly #asked = new Map<ShortId, Origin>()

  constructor(parts: PullParts) {
    this.#parts = parts
  }

  /** The number of statements that are asked for. */
  get asked(): number {
    return this.#asked.size
  }

  /** Does what is due with each neighbour, and begins comparisons (invariant 3). Cheap when nothing is due. */
  advance(neighbours: Iterable<Neighbour>, nowMs: number): void {
    const due: Neighbour[] = []
    let rounds = 0
    for (const neighbour of neighbours) {
      const { round } = neighbour.pull
      if (round !== undefined) this.#goOn(neighbour, round, nowMs)
      if (neighbour.pull.round !== undefined) rounds++
      else if (this.#isDue(neighbour, nowMs)) due.push(neighbour)
    }
    const free = Math.max(0, this.#parts.limits.roundsMax - rounds)
    due.sort((left, right) => left.pull.endedMs - right.pull.endedMs)
    for (const neighbour of due.slice(0, free)) this.#begin(neighbour, nowMs)
  }

  /** Goes on with a comparison. */
  #goOn(neighbour: Neighbour, round: Round, nowMs: number): void {
    const { limits } = this.#parts
    if (nowMs - round.beganMs >= limits.roundLimitMs) {
      round.missed = true
      return this.#end(neighbour, round, nowMs)
    }
    if (round.answerDue || round.want !== undefined) {
      if (nowMs - (round.want?.atMs ?? round.questionMs) < limits.answerMs) return
      round.missed = true
      return this.#end(neighbour, round, nowMs)
    }
    if (neighbour.queued > limits.queueItems / 4) return // invariant 2
    // A look through all wanted ids that found them under way elsewhere is not repeated with each frame.
    if (nowMs < round.lookMs) return
    this.#want(neighbour, round, nowMs)
    // What is asked of others, in a queue or not added yet must be known before the comparison goes on.
    const isOpen = round.want !== undefined || round.wanted.length > 0
    if (isOpen || neighbour.queued > 0 || this.#parts.intake.verified > 0) return
    if (round.next === 0) this.#end(neighbour, round, nowMs)
    else if (nowMs - round.questionMs >= limits.partMs) this.#ask(neighbour, round, nowMs)
  }

  /** Takes the answer to a question. Ids that were not asked for are ignored. */
  receiveIds(
    neighbour: Neighbour,
    { ids, next }: { readonly ids: readonly ShortId[]; readonly next: number },
    nowMs: number
  ): void {
    const { round } = neighbour.pull
    if (round === undefined || !round.answerDue)
      return this.#parts.outbox.refuse(neighbour.peer, 'ids without a question')
    round.answerDue = false
    // A part that does not go on would never end.
    round.next = next > round.next ? next : 0
    round.wanted = ids.filter((id) => this.#parts.intake.lacks(id, neighbour, nowMs))
  }

  /** Takes note of items that came as an answer. `last`: the neighbour sends no more of what was wanted. */
  answered(neighbour: Neighbour, ids: readonly ShortId[], last: boolean): void {
    const { round } = neighbour.pull
    if (round?.want === undefined) return
    for (const id of ids) {
      if (!round.want.ids.delete(id)) continue
      round.want.received++
      this.#asked.delete(id)
    }
    if (!last) return
    // The answer is bounded in bytes, so the rest is asked for again. One that brought nothing has nothing to bring.
    if (round.want.received > 0) round.wanted = [...round.want.ids, ...round.wanted]
    else if (round.want.ids.size > 0) round.missed = true
    this.#release(round)
  }

  /** Lets other neighbours be asked for what was asked of this one. */
  drop(neighbour: Neighbour): void {
    const { round } = neighbour.pull
    if (round !== undefined) this.#release(round)
    neighbour.pull.round = undefined
  }

  /** Whether a comparison is due: the sets differ, not only for a moment, and the pause is over. */
  #isDue(neighbour: Neighbour, nowMs: number): boolean {
    const { index, limits } = this.#parts
    const { pull, head } = neighbour
    if (head === undefined) return false
    if (equalBytes(head.root, index.head.root)) {
      pull.differsMs = undefined
      this.#reportInStep(neighbour)
      return false
    }
    pull.differsMs ??= nowMs
    // Heads come after the items that change them, so in an ordinary flood they differ for a moment.
    if (neighbour.inStep && nowMs - pull.differsMs < limits.roundMs) return false
    const pauseMs = pull.endedRoots === this.#roots(neighbour) ? pull.pauseMs : limits.roundMs
    return nowMs - pull.endedMs >= pauseMs
  }

  /** Begins a comparison. */
  #begin(neighbour: Neighbour, nowMs: number): void {
    const round: Round = {
      beganMs: nowMs,
      questionMs: nowMs,
      answerDue: true,
      next: 0,
      wanted: [],
      lookMs: nowMs,
      want: undefined,
      missed: false
    }
    neighbour.pull.round = round
    this.#ask(neighbour, round, nowMs)
  }

  /** Asks for the ids of the next part. */
  #ask(neighbour: Neighbour, round: Round, nowMs: number): void {
    round.questionMs = nowMs
    round.answerDue = true
    this.#parts.outbox.send(neighbour.peer, digestsFrame(this.#parts.index.digests(), round.next))
  }

  /** Asks for the next statements that are still lacking and that no other neighbour is asked for. */
  #want(neighbour: Neighbour, round: Round, nowMs: number): void {
    const { intake, limits, outbox } = this.#parts
    const ids: ShortId[] = []
    const rest: ShortId[] = []
    for (const id of round.wanted) {
      if (!intake.lacks(id, neighbour, nowMs)) continue
      if (ids.length < limits.wantIds && !this.#asked.has(id) && !intake.isUnderWay(id)) ids.push(id)
      else rest.push(id)
    }
    round.wanted = rest
    if (ids.length === 0) {
      round.lookMs = nowMs + limits.partMs / 2
      return
    }
    for (const id of ids) this.#asked.set(id, neighbour.peer)
    round.want = { ids: new Set(ids), atMs: nowMs, received: 0 }
    outbox.send(neighbour.peer, wantFrame(ids))
  }

  /** Ends a comparison, and chooses the pause before the next one (invariant 4). */
  #end(neighbour: Neighbour, round: Round, nowMs: number): void {
    const { roundMs, roundMaxMs } = this.#parts.limits
    const { pull } = neighbour
    this.#release(round)
    const roots = this.#roots(neighbour)
    pull.pauseMs = roots === pull.endedRoots ? Math.min(2 * pull.pauseMs, roundMaxMs) : roundMs
    pull.endedRoots = roots
    pull.endedMs = nowMs
    pull.round = undefined
    if (!round.missed) this.#reportInStep(neighbour)
  }

  /** Forgets the TrustWant under way. */
  #release(round: Round): void {
    for (const id of round.want?.ids ?? []) this.#asked.delete(id)
    round.want = undefined
  }

  #reportInStep(neighbour: Neighbour): void {
    if (neighbour.inStep) return
    neighbour.inStep = true
    this.#parts.outbox.add({ kind: 'inStep', peer: neighbour.peer })
  }

  /** Both roots as one key: while it stays, another comparison would find the same. */
  #roots({ head }: Neighbour): string {
    return bytesKey(this.#parts.index.head.root) + (head === undefined ? '' : bytesKey(head.root))
  }
}
