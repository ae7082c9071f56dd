// Events in the order of virtual time; those of one moment in the order in which they were added. A binary heap.
export class EventQueue<T extends { readonly atMs: number }> {
  readonly #heap: { readonly event: T; readonly order: number }[] = []
  #order = 0

  get size(): number {
    return this.#heap.length
  }

  add(event: T): void {
    const heap = this.#heap
    const entry = { event, order: this.#order++ }
    let at = heap.length
    heap.push(entry)
    while (at > 0) {
      const parent = (at - 1) >>> 1
      const above = heap[parent]
      if (!above || isBefore(above, entry)) break
      heap[at] = above
      at = parent
    }
    heap[at] = entry
  }

  /** The next event at `untilMs` or before. */
  next(untilMs: number): T | undefined {
    const [first] = this.#heap
    if (!first || first.event.atMs > untilMs) return undefined
    const last = this.#heap.pop()
    if (last && this.#heap.length > 0) this.#sink(last)
    return first.event
  }

  #sink(entry: { readonly event: T; readonly order: number }): void {
    const heap = this.#heap
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      const [left, right] = [heap[child], heap[child + 1]]
      if (!left) break
      let smaller = left
      if (right && isBefore(right, left)) {
        smaller = right
        child++
      }
      if (isBefore(entry, smaller)) break
      heap[at] = smaller
      at = child
    }
    heap[at] = entry
  }
}

interface Entry {
  readonly event: { readonly atMs: number }
  readonly order: number
}

function isBefore(left: Entry, right: Entry): boolean {
  return (
    left.event.atMs - right.event.atMs < 0 ||
    (left.event.atMs === right.event.atMs && left.order < right.order)
  )
}
