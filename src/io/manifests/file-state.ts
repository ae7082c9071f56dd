// What counts of one file, given what counted before and what was just read. Pure, with the time as an argument.
// Invariants
//   1. Each document stands alone: one that is broken keeps its own last good form, and the fault is reported; every other one
//      counts as it is now, whether it was changed, added or removed.
//   2. What was good is known for as long as the broken one stands there, over restarts too (last-good.ts): a restart changes nothing.
//   3. Objects that vanish, alone or with their file, are believed only when the file has been still for STILL_MS;
//      everything else counts at once. A file in the middle of an edit never takes a service away.
import type { Item, Problem } from '../../core/catalog/catalog.ts'
import { keyOf } from '../../core/model/values.ts'
import { namesIn } from './documents.ts'
import type { FileContent, ReadDocument } from './read-file.ts'

export interface DocumentState extends ReadDocument {
  /** Last good forms of what is broken of it. */
  readonly kept: readonly Item[]
  /** Of an earlier life: what was no good object of it is not known. */
  readonly isRecalled?: true
}

export interface FileState {
  readonly documents: readonly DocumentState[]
  /** Nothing of the file can be read now. */
  readonly problem: Problem | undefined
  /** Something vanished: believed at `untilMs` unless it is back by then. */
  readonly doubt: { readonly sinceMs: number; readonly untilMs: number } | undefined
}

/** A truncating writer fills the file within a millisecond or two; a slow one delays a withdrawal, no more. */
const STILL_MS = 40
// However often the file changes, a withdrawal is believed after this long.
const DOUBT_MS_MAX = 1000

/** `content` undefined: the file is gone. The answer is undefined when nothing of it counts any more. */
export function nextFileState(options: {
  readonly before: FileState | undefined
  readonly content: FileContent | undefined
  readonly nowMs: number
  /** False when the file is as it was when the doubt arose. */
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

export function itemsOf({ documents }: FileState): readonly Item[] {
  return documents.flatMap(({ items, kept }) => (kept.length === 0 ? items : [...items, ...kept]))
}

export function problemsOf({ documents, problem }: FileState): readonly Problem[] {
  const counts = documents.some((document) => goodOf(document).length > 0)
  return [
    ...(problem === undefined ? [] : [counts ? stillCounts(problem) : problem]),
    ...documents.flatMap(({ fault, kept }) =>
      fault === undefined ? [] : [kept.length > 0 ? stillCounts(fault) : fault]
    )
  ]
}

/** The objects of a document that count. */
export function goodOf({ items, kept }: DocumentState): readonly Item[] {
  return [...items, ...kept].filter((item) => keyOfItem(item) !== undefined)
}

/** Invariant 1. No object counts twice: one that is good somewhere in the file, or kept already, is not kept. */
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

/** Of each document that is broken now: the one that it was before, if any. */
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

/** Index after → index before, of documents with the same text or an object in common. */
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

/** Documents before that stood between the neighbours of this one, and of which nothing is found now. */
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

/** The one whose name the text has, wherever it stood. Where it has none, of the gap: one that was broken before, else the first. */
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

/** It says nothing, or one object that makes no sense. */
function isBroken({ fault, items }: ReadDocument): boolean {
  return fault !== undefined || (items.length === 1 && items.some(isProblem))
}

function isProblem({ reading }: Item): boolean {
  return reading.kind === 'problem'
}

function brokenKeys({ items }: ReadDocument): readonly string[] {
  return items.flatMap(({ reading }) =>
    reading.kind === 'problem' && reading.key !== undefined ? [reading.key] : []
  )
}

function loses(before: readonly DocumentState[], after: readonly DocumentState[]): boolean {
  const still = new Set(after.flatMap((document) => keysOf(goodOf(document))))
  return before.some((document) => keysOf(goodOf(document)).some((key) => !still.has(key)))
}

function keysOf(items: readonly Item[]): readonly string[] {
  return items.flatMap((item) => keyOfItem(item) ?? [])
}

function keyOfItem({ reading }: Item): string | undefined {
  return reading.kind === 'service' || reading.kind === 'endpointSlice' ? keyOf(reading.value) : undefined
}

function nameOf({ reading }: Item): string {
  return reading.kind === 'service' || reading.kind === 'endpointSlice' ? reading.value.name : ''
}

function stillCounts(problem: Problem): Problem {
  return { ...problem, message: `${problem.message} (the last good content still counts)` }
}
