// What counts of one file, from what counted before and what was just read. Pure functions, with the time as an
// argument; manifest-source.ts keeps the state of each file and calls nextFileState() in its passes.
// Invariants
//   1. Each document stands alone. A document that is broken keeps its own last good form, and the fault is reported.
//      Every other document counts as it is now, whether it was changed, added or removed.
//   2. The last good form is kept for as long as the broken document exists, over restarts, too (last-good.ts). So a
//      restart changes nothing.
//   3. Objects that vanish, alone or with their file, are removed only when the file has not changed for STILL_MS.
//      Everything else counts at once. So a file in the middle of an edit never withdraws a service.
import type { Item, Problem } from '../../core/catalog/catalog.ts'
import { keyOf } from '../../core/model/values.ts'
import { namesIn } from './documents.ts'
import type { FileContent, ReadDocument } from './read-file.ts'

/** A document as it was read, with what still counts from before. */
export interface DocumentState extends ReadDocument {
  /** The last good forms of objects that are broken in it now. */
  readonly kept: readonly Item[]
  /**
   * Set when the document comes from last-good.ts, after a restart. Only its good objects are known, so it is parsed
   * again.
   */
  readonly isRecalled?: true
}

/** The state of one file. */
export interface FileState {
  readonly documents: readonly DocumentState[]
  /**
   * Why nothing of the file can be read now; undefined when it can. Its documents are then those of the last reading.
   */
  readonly problem: Problem | undefined
  /**
   * Set while objects have vanished and are still counted: since when, and until when they may come back
   * (milliseconds, monotonic clock).
   */
  readonly doubt: { readonly sinceMs: number; readonly untilMs: number } | undefined
}

// Milliseconds. A writer that truncates the file fills it within 1 to 2 ms. For a slower writer the old content would
// only count for longer.
const STILL_MS = 40
// Milliseconds. Objects that have vanished are removed after this time, however often the file changes.
const DOUBT_MS_MAX = 1000

/**
 * The next state of a file; undefined when the file is gone and its objects no longer count. `content` undefined: the
 * file does not exist. `before` undefined: the file is new.
 */
export function nextFileState(options: {
  readonly before: FileState | undefined
  readonly content: FileContent | undefined
  readonly nowMs: number
  /** False when the file has not changed since the doubt arose. */
  readonly changed: boolean
}): FileState | undefined {
  const { before, content, nowMs } = options
  const known = before?.documents ?? []
  if (content?.kind === 'unreadable') return { documents: known, problem: content.problem, doubt: undefined }
  const next = content && { documents: withLastGood(known, content.documents), problem: undefined }
  if (before === undefined || !loses(known, next?.documents ?? []))
    return next && { ...next, doubt: undefined }
  const sinceMs = before.doubt?.sinceMs ?? nowMs
  const untilMs =
    before.doubt && !options.changed
      ? before.doubt.untilMs
      : Math.min(nowMs + STILL_MS, sinceMs + DOUBT_MS_MAX)
  if (nowMs >= untilMs) return next && { ...next, doubt: undefined }
  return { ...before, doubt: { sinceMs, untilMs } }
}

/** The objects of a file for the catalog, broken ones included: catalog() reports those. */
export function itemsOf({ documents }: FileState): readonly Item[] {
  return documents.flatMap(({ items, kept }) => (kept.length === 0 ? items : [...items, ...kept]))
}

/** The problems of a file and its documents. Each says whether the last good content still counts. */
export function problemsOf({ documents, problem }: FileState): readonly Problem[] {
  const counts = documents.some((document) => goodOf(document).length > 0)
  return [
    ...(problem === undefined ? [] : [counts ? stillCounts(problem) : problem]),
    ...documents.flatMap(({ fault, kept }) =>
      fault === undefined ? [] : [kept.length > 0 ? stillCounts(fault) : fault]
    )
  ]
}

/** The objects of a document that count: the good ones, and the last good forms of broken ones. */
export function goodOf({ items, kept }: DocumentState): readonly Item[] {
  return [...items, ...kept].filter((item) => keyOfItem(item) !== undefined)
}

/**
 * The new documents with the last good forms that they keep (invariant 1). No object counts twice: an object that is
 * good in another place of the file, or kept already, is not kept again.
 */
function withLastGood(
  before: readonly DocumentState[],
  after: readonly ReadDocument[]
): readonly DocumentState[] {
  if (after.every(({ items, fault }) => fault === undefined && !items.some(isProblem)))
    return after.map((document) => ({ ...document, kept: [] }))
  const counted = new Set(after.flatMap(({ items }) => keysOf(items)))
  const origins = originsOf(before, after, counted)
  const goodBefore = before.flatMap(goodOf)
  return after.map((document, index) => {
    const origin = origins.get(index)
    const wanted = new Set([
      ...brokenKeys(document),
      ...(isBroken(document) && origin !== undefined ? keysOf(goodOf(origin)) : [])
    ])
    const kept = goodBefore.filter((item) => {
      const key = keyOfItem(item) ?? ''
      if (!wanted.has(key) || counted.has(key)) return false
      counted.add(key)
      return true
    })
    return { ...document, kept }
  })
}

/** Returns, for each document that is broken now, the earlier document that it was, if one is found. */
function originsOf(
  before: readonly DocumentState[],
  after: readonly ReadDocument[],
  counted: ReadonlySet<string>
): ReadonlyMap<number, DocumentState> {
  const sameAs = matchesOf(before, after)
  const matched = new Set(sameAs.values())
  const free = new Set(before.keys().filter((index) => !matched.has(index)))
  const origins = new Map<number, DocumentState>()
  for (const [index, document] of after.entries()) {
    if (!isBroken(document)) continue
    const gap = between(index, { sameAs, free, count: before.length })
    const found = sameAs.get(index) ?? likeliest(document, { free, gap, before, counted })
    const origin = found === undefined ? undefined : before[found]
    if (found === undefined || origin === undefined) continue
    free.delete(found)
    sameAs.set(index, found)
    origins.set(index, origin)
  }
  return origins
}

/**
 * Returns, by the index of each new document, the index of the earlier document with the same text or with an object in
 * common.
 */
function matchesOf(before: readonly DocumentState[], after: readonly ReadDocument[]): Map<number, number> {
  const byId = new Map(before.flatMap(({ id }, index) => (id === '' ? [] : [[id, index]])))
  const byKey = new Map(
    before.flatMap((document, index) => keysOf(goodOf(document)).map((key) => [key, index]))
  )
  const taken = new Set<number>()
  const matches = new Map<number, number>()
  for (const [index, document] of after.entries()) {
    const keys = [...keysOf(document.items), ...brokenKeys(document)]
    const found = [byId.get(document.id), ...keys.map((key) => byKey.get(key))].find(
      (each) => each !== undefined && !taken.has(each)
    )
    if (found === undefined) continue
    taken.add(found)
    matches.set(index, found)
  }
  return matches
}

/** Returns the earlier documents that stood between the neighbours of this document and match no new document. */
function between(
  index: number,
  known: {
    readonly sameAs: ReadonlyMap<number, number>
    readonly free: ReadonlySet<number>
    readonly count: number
  }
): readonly number[] {
  const { sameAs, free, count } = known
  let [above, below] = [-1, count]
  for (const [at, was] of sameAs) {
    if (at < index) above = Math.max(above, was)
    else if (at > index) below = Math.min(below, was)
  }
  return [...free].filter((each) => above >= below || (each > above && each < below))
}

/**
 * Returns the index of the earlier document that a broken document most likely was. The rules, in their order:
 * 1. an earlier document with good objects of which the broken text has a name; those in `gap` are tried first
 * 2. one in `gap` that was broken before
 * 3. if the text has no name at all, the first one in `gap` with good objects
 * `gap`: the earlier documents between the same two neighbours (`between`). `free`: all that match no new document.
 */
function likeliest(
  { text }: ReadDocument,
  candidates: {
    readonly free: ReadonlySet<number>
    readonly gap: readonly number[]
    readonly before: readonly DocumentState[]
    readonly counted: ReadonlySet<string>
  }
): number | undefined {
  const { free, gap, before, counted } = candidates
  const names = namesIn(text)
  const goodAt = (index: number): readonly Item[] => {
    const document = before[index]
    return document === undefined
      ? []
      : goodOf(document).filter((item) => !counted.has(keyOfItem(item) ?? ''))
  }
  const isNamed = (index: number): boolean => goodAt(index).some((item) => names.has(nameOf(item)))
  const wasBroken = (index: number): boolean => before[index] !== undefined && isBroken(before[index])
  const named = [...gap, ...free].find(isNamed) ?? gap.find(wasBroken)
  return named ?? (names.size === 0 ? gap.find((index) => goodAt(index).length > 0) : undefined)
}

/** Whether a document cannot be parsed, or is one object with an invalid field. */
function isBroken({ fault, items }: ReadDocument): boolean {
  return fault !== undefined || (items.length === 1 && items.some(isProblem))
}

function isProblem({ reading }: Item): boolean {
  return reading.kind === 'problem'
}

/** The record keys of objects with an invalid field, as far as their names can be read. */
function brokenKeys({ items }: ReadDocument): readonly string[] {
  return items.flatMap(({ reading }) =>
    reading.kind === 'problem' && reading.key !== undefined ? [reading.key] : []
  )
}

/** Whether an object that counts in `before` does not count in `after`. */
function loses(before: readonly DocumentState[], after: readonly DocumentState[]): boolean {
  const still = new Set(after.flatMap((document) => keysOf(goodOf(document))))
  return before.some((document) => keysOf(goodOf(document)).some((key) => !still.has(key)))
}

function keysOf(items: readonly Item[]): readonly string[] {
  return items.flatMap((item) => keyOfItem(item) ?? [])
}

function keyOfItem({ reading }: Item): string | undefined {
  if (reading.kind === 'serviceExport') return `exp/${reading.value.namespace}/${reading.value.name}`
  return reading.kind === 'service' || reading.kind === 'endpointSlice' ? keyOf(reading.value) : undefined
}

function nameOf({ reading }: Item): string {
  return reading.kind === 'ignored' || reading.kind === 'problem' ? '' : reading.value.name
}

function stillCounts(problem: Problem): Problem {
  return { ...problem, message: `${problem.message} (the last good content is still used)` }
}
