// An immutable, sorted map with structural sharing. An edit returns a new map that shares with the old one all runs
// of keys that did not change. So a new map of 100,000 services with one changed costs a copy of some hundred
// pointers, and `changesBetween` finds what differs between two such maps without reading the runs that they share.
// Views and live catalogues are built on it.
// Invariants
//   1. Keys are in the order of their code units.
//   2. The keys are cut into runs. A run begins at each key whose hash says so, and nowhere else. So two maps with
//      the same content have the same runs; the order of their edits does not matter.
//   3. A run that an edit did not touch is the same object afterwards.
// An attacker who chooses keys so that runs are very long or very short makes an edit as expensive as a copy of the
// whole map, no more.
import { hashText, mixBits } from './hash.ts'

/** Neighbouring keys and their values, at the same indexes. */
interface Run<V> {
  readonly keys: readonly string[]
  readonly values: readonly V[]
}

/** The new value of a key; undefined removes the key. A map therefore cannot hold undefined as a value. */
export type Edit<V> = readonly [key: string, value: V | undefined]

/**
 * A key whose value differs between two maps. `before` undefined: the key is new; `after` undefined: the key is gone.
 */
export interface KeyChange<V> {
  readonly key: string
  readonly before: V | undefined
  readonly after: V | undefined
}

/**
 * Iteration is in key order. Lookups and edits take logarithmic time for the search, and an edit copies one run and
 * the list of runs.
 */
export class SortedMap<V> implements ReadonlyMap<string, V> {
  readonly size: number
  /** The content. Outside this file only tests read the runs. */
  readonly runs: readonly Run<V>[]

  private constructor(runs: readonly Run<V>[], size: number) {
    this.runs = runs
    this.size = size
  }

  static empty<V>(): SortedMap<V> {
    return new SortedMap<V>([], 0)
  }

  /** A map of these entries, sorted once. When a key occurs twice, the last value counts. */
  static from<V>(entries: Iterable<readonly [string, V]>): SortedMap<V> {
    const sorted = [...new Map(entries)].sort(([left], [right]) => compareKeys(left, right))
    return new SortedMap(cutIntoRuns(sorted), sorted.length)
  }

  get(key: string): V | undefined {
    const run = this.runs[runOf(this.runs, key)]
    if (run === undefined) return undefined
    const at = lowerBound(run.keys, key)
    return run.keys[at] === key ? run.values[at] : undefined
  }

  has(key: string): boolean {
    const keys = this.runs[runOf(this.runs, key)]?.keys
    return keys !== undefined && keys[lowerBound(keys, key)] === key
  }

  /**
   * The first key that is equal to `from` or above it; undefined when all keys are below. DNS asks with it whether a
   * namespace has a service.
   */
  keyFrom(from: string): string | undefined {
    const index = Math.max(0, runOf(this.runs, from))
    const keys = this.runs[index]?.keys ?? []
    return keys[lowerBound(keys, from)] ?? this.runs[index + 1]?.keys[0]
  }

  /** A map with these edits; the same object when no value changes. When a key occurs twice, the last edit counts. */
  with(edits: Iterable<Edit<V>>): SortedMap<V> {
    const latest = new Map(edits)
    for (const [key, value] of latest) if (this.get(key) === value) latest.delete(key)
    if (latest.size === 0) return this
    if (latest.size > REBUILD_MIN && latest.size * REBUILD_SHARE > this.size) return this.#rebuilt(latest)
    const draft = new Draft(this.runs, this.size)
    for (const [key, value] of latest) draft.edit(key, value)
    return new SortedMap(draft.runs, draft.size)
  }

  forEach(act: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const { keys, values } of this.runs) {
      for (const [at, key] of keys.entries()) act(values[at] as V, key, this)
    }
  }

  *keys(): MapIterator<string> {
    for (const { keys } of this.runs) yield* keys
  }

  *values(): MapIterator<V> {
    for (const { values } of this.runs) yield* values
  }

  *entries(): MapIterator<[string, V]> {
    for (const { keys, values } of this.runs) {
      for (const [at, key] of keys.entries()) yield [key, values[at] as V]
    }
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries()
  }

  #rebuilt(edits: ReadonlyMap<string, V | undefined>): SortedMap<V> {
    const entries: [string, V][] = []
    for (const entry of this) if (!edits.has(entry[0])) entries.push(entry)
    for (const [key, value] of edits) if (value !== undefined) entries.push([key, value])
    entries.sort(([left], [right]) => compareKeys(left, right))
    return new SortedMap(shareRuns(cutIntoRuns(entries), this.runs), entries.length)
  }
}

/**
 * The keys whose values are not the same object in both maps, in key order. Where one map was made from the other by
 * edits, only the edited runs are read; any other two maps are compared key by key.
 */
export function changesBetween<V>(
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>
): readonly KeyChange<V>[] {
  if (before === after) return []
  if (before instanceof SortedMap && after instanceof SortedMap)
    return changesOfRuns(before as SortedMap<V>, after as SortedMap<V>)
  const changes: KeyChange<V>[] = []
  for (const [key, value] of after) {
    const old = before.get(key)
    if (old !== value) changes.push({ key, before: old, after: value })
  }
  for (const [key, value] of before)
    if (!after.has(key)) changes.push({ key, before: value, after: undefined })
  return changes.sort((left, right) => compareKeys(left.key, right.key))
}

/** The order of code units, which is the same in every locale; for sort(). */
export function compareKeys(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}

// One key in 256 begins a run: an edit copies about 256 pointers of a run, and one pointer for each run.
const RUN_BITS = 8
// Sorting everything once is faster than edits one by one when more than 64 keys and more than a sixteenth of the map
// change.
const REBUILD_MIN = 64
const REBUILD_SHARE = 16

/** Whether a run begins at this key (invariant 2). */
function beginsRun(key: string): boolean {
  return mixBits(hashText(key)) >>> (32 - RUN_BITS) === 0
}

/**
 * The list of runs while `with` edits it: a copy of the old list. A changed run is replaced by a new object, because
 * older maps share the old one.
 */
class Draft<V> {
  readonly runs: Run<V>[]
  size: number

  constructor(runs: readonly Run<V>[], size: number) {
    this.runs = [...runs]
    this.size = size
  }

  edit(key: string, value: V | undefined): void {
    const index = runOf(this.runs, key)
    const run = this.runs[index]
    const at = run === undefined ? 0 : lowerBound(run.keys, key)
    const there = run?.keys[at] === key
    if (value !== undefined && there) this.#replace(index, { at, value })
    else if (value !== undefined) this.#insert(index, { at, key, value })
    else if (there) this.#delete(index, at)
  }

  #replace(index: number, { at, value }: { readonly at: number; readonly value: V }): void {
    const { keys, values } = this.runs[index] as Run<V>
    this.runs[index] = { keys, values: values.with(at, value) }
  }

  #insert(
    index: number,
    { at, key, value }: { readonly at: number; readonly key: string; readonly value: V }
  ) {
    this.size++
    const one: Run<V> = { keys: [key], values: [value] }
    const run = this.runs[index]
    if (run === undefined) {
      // The new key is below all others: it joins the first run, unless the first key of that run must begin a run.
      const first = this.runs[0]
      if (first === undefined || beginsRun(first.keys[0] ?? '')) this.runs.unshift(one)
      else this.runs[0] = joined(one, first)
      return
    }
    const tail = joined(one, part(run, at, run.keys.length))
    if (!beginsRun(key)) this.runs[index] = joined(part(run, 0, at), tail)
    else this.runs.splice(index, 1, part(run, 0, at), tail)
  }

  #delete(index: number, at: number): void {
    this.size--
    const run = this.runs[index] as Run<V>
    const left = joined(part(run, 0, at), part(run, at + 1, run.keys.length))
    const before = this.runs[index - 1]
    // The deleted key may have begun the run. What followed it then belongs to the run before.
    if (left.keys.length === 0) this.runs.splice(index, 1)
    else if (at === 0 && before !== undefined) this.runs.splice(index - 1, 2, joined(before, left))
    else this.runs[index] = left
  }
}

function part<V>({ keys, values }: Run<V>, from: number, to: number): Run<V> {
  return { keys: keys.slice(from, to), values: values.slice(from, to) }
}

function joined<V>(left: Run<V>, right: Run<V>): Run<V> {
  return { keys: left.keys.concat(right.keys), values: left.values.concat(right.values) }
}

function cutIntoRuns<V>(sorted: readonly (readonly [string, V])[]): readonly Run<V>[] {
  const runs: { readonly keys: string[]; readonly values: V[] }[] = []
  for (const [key, value] of sorted) {
    let run = runs.at(-1)
    if (run === undefined || beginsRun(key)) {
      run = { keys: [], values: [] }
      runs.push(run)
    }
    run.keys.push(key)
    run.values.push(value)
  }
  return runs
}

/** Keeps invariant 3 after a rebuild: a run with the same content is replaced by the old object. */
function shareRuns<V>(fresh: readonly Run<V>[], old: readonly Run<V>[]): readonly Run<V>[] {
  const byFirst = new Map(old.map((run) => [run.keys[0], run]))
  return fresh.map((run) => {
    const known = byFirst.get(run.keys[0])
    return known !== undefined && sameList(known.keys, run.keys) && sameList(known.values, run.values)
      ? known
      : run
  })
}

function sameList(left: readonly unknown[], right: readonly unknown[]): boolean {
  return left.length === right.length && left.every((each, at) => each === right[at])
}

/** The index of the last run whose first key is not above `key`; −1 when every run begins above it. */
function runOf(runs: readonly Run<unknown>[], key: string): number {
  let [low, high] = [0, runs.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((runs[middle]?.keys[0] ?? '') <= key) low = middle + 1
    else high = middle
  }
  return low - 1
}

/** The index of the first key that is not below `key`; the length when all are below. */
function lowerBound(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((keys[middle] ?? '') < key) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * Walks both maps in step and skips a run that is the same object in both, when both cursors are at its beginning.
 */
function changesOfRuns<V>(before: SortedMap<V>, after: SortedMap<V>): readonly KeyChange<V>[] {
  const changes: KeyChange<V>[] = []
  const [left, right] = [new Cursor(before.runs), new Cursor(after.runs)]
  while (left.run !== undefined || right.run !== undefined) {
    if (left.run === right.run && left.at === 0 && right.at === 0) {
      left.skipRun()
      right.skipRun()
      continue
    }
    const order = left.run === undefined ? 1 : right.run === undefined ? -1 : compareKeys(left.key, right.key)
    const [old, now] = [order <= 0 ? left.value : undefined, order >= 0 ? right.value : undefined]
    if (order !== 0 || old !== now)
      changes.push({ key: order <= 0 ? left.key : right.key, before: old, after: now })
    if (order <= 0) left.step()
    if (order >= 0) right.step()
  }
  return changes
}

/** A position in a map: a run and an index in it. `run` is undefined at the end. */
class Cursor<V> {
  readonly #runs: readonly Run<V>[]
  #index = 0
  run: Run<V> | undefined
  at = 0

  constructor(runs: readonly Run<V>[]) {
    this.#runs = runs
    this.run = runs[0]
  }

  get key(): string {
    return this.run?.keys[this.at] ?? ''
  }

  get value(): V | undefined {
    return this.run?.values[this.at]
  }

  step(): void {
    this.at++
    if (this.at >= (this.run?.keys.length ?? 0)) this.skipRun()
  }

  skipRun(): void {
    this.run = this.#runs[++this.#index]
    this.at = 0
  }
}
