// The admissions of one set whose sponsors are not known yet, with the bars that their clusters signed. They are no
// part of the set (invariant 3 of trust-set.ts), so what this pool drops comes again with the next exchange of ids.
import type { Bounds } from './bounds.ts'
import { type AdmissionEntry, comparePlaces, type Entry } from './entry.ts'
import type { StatementId } from './ids.ts'

/** An admission in the pool, and the bars that its cluster signed. */
interface Waiting {
  readonly entry: AdmissionEntry
  readonly after: Map<StatementId, Entry>
}

/** See the head of this file. */
export class WaitingPool {
  readonly #bounds: Pick<Bounds, 'waiting' | 'waitingOfInvite' | 'barsOfCluster'>
  readonly #held = new Map<StatementId, Waiting>()

  constructor(bounds: Pick<Bounds, 'waiting' | 'waitingOfInvite' | 'barsOfCluster'>) {
    this.#bounds = bounds
  }

  /** The admissions that wait, in no order. */
  entries(): readonly AdmissionEntry[] {
    return Array.from(this.#held.values(), ({ entry }) => entry)
  }

  /** Puts an admission into the pool, with the bars of its cluster that came with it. */
  add(entry: AdmissionEntry, after: readonly Entry[]): void {
    const { id } = entry.statement
    const held = this.#held.get(id) ?? { entry, after: new Map<StatementId, Entry>() }
    for (const one of after)
      if (held.after.size < this.#bounds.barsOfCluster) held.after.set(one.statement.id, one)
    this.#held.set(id, held)
  }

  /**
   * Takes out the admissions whose sponsors are among `added` and that are ready, and gives them to `put` with what
   * waits with them. `put` appends to `added`, so that they are sponsors in turn. O(n) of both.
   */
  wake(
    added: readonly Entry[],
    set: {
      readonly isReady: (entry: AdmissionEntry) => boolean
      readonly put: (entry: Entry) => void
    }
  ): void {
    const bySponsor = Map.groupBy(this.#held.values(), ({ entry }) => entry.statement.sponsorKey)
    // Entries that this loop adds are sponsors themselves, so it goes on to the end of the growing list.
    for (const sponsor of added) {
      if (sponsor.kind !== 'admission' && sponsor.kind !== 'founding') continue
      for (const { entry, after } of bySponsor.get(sponsor.statement.clusterKey) ?? []) {
        const { id } = entry.statement
        if (!this.#held.has(id) || !set.isReady(entry)) continue
        this.#held.delete(id)
        for (const one of [entry, ...after.values()]) set.put(one)
      }
    }
  }

  /** Keeps the lowest places, and of each invite a few, so that one token does not fill the pool. */
  trim(hasSeat: (seat: StatementId) => boolean): void {
    for (const [id, { entry }] of this.#held)
      if (!hasSeat(entry.invite.statement.under)) this.#held.delete(id)
    const sorted = this.entries().toSorted((a, b) => comparePlaces(a.statement, b.statement))
    const byInvite = Map.groupBy(sorted, ({ invite }) => invite.statement.id)
    const beyond = [...byInvite.values()].flatMap((list) => list.slice(this.#bounds.waitingOfInvite))
    for (const { statement } of beyond) this.#held.delete(statement.id)
    const left = sorted.filter(({ statement }) => this.#held.has(statement.id))
    for (const { statement } of left.slice(this.#bounds.waiting)) this.#held.delete(statement.id)
  }
}
