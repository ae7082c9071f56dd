// What counts of one file, given what counted before and what was just read. Pure, with the time as an argument.
// Invariants (fail static: a file in the middle of an edit never takes a service away)
//   1. A file that was read and now is broken keeps its last content, and the fault is reported.
//   2. An object that was sound and now is not keeps its last value, and the fault is reported.
//   3. Objects that vanish, alone or with their file, are believed only when the file has been still for STILL_MS;
//      everything else counts at once.
import type { Item, Problem } from '../../core/catalog.ts'
import { keyOf } from '../../core/model.ts'
import type { FileContent } from './read-file.ts'

export interface FileState {
  readonly items: readonly Item[]
  readonly problems: readonly Problem[]
  /** Something vanished: believed at `untilMs` unless it is back by then. */
  readonly doubt: { readonly sinceMs: number; readonly untilMs: number } | undefined
}

/** A truncating writer fills the file within a millisecond or two; a slow one delays a withdrawal, no more. */
export const STILL_MS = 40
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
  if (before === undefined) return content && { ...content, doubt: undefined }
  if (content && !content.sound && before.items.length > 0) {
    return { items: before.items, problems: content.problems.map(stillCounts), doubt: undefined }
  }
  const next = content && { ...content, items: keepBroken(before.items, content.items) }
  if (!loses(before.items, next?.items ?? [])) return next && { ...next, doubt: undefined }
  const sinceMs = before.doubt?.sinceMs ?? nowMs
  const untilMs =
    before.doubt && !options.changed
      ? before.doubt.untilMs
      : Math.min(nowMs + STILL_MS, sinceMs + DOUBT_MS_MAX)
  if (nowMs >= untilMs) return next && { ...next, doubt: undefined }
  return { ...before, doubt: { sinceMs, untilMs } }
}

function keepBroken(before: readonly Item[], after: readonly Item[]): readonly Item[] {
  const brokenKeys = new Set(
    after.flatMap(({ reading }) => (reading.kind === 'problem' && reading.key ? [reading.key] : []))
  )
  if (brokenKeys.size === 0) return after
  const sound = new Set(keysOf(after))
  const kept = before.filter((item) => keysOf([item]).some((key) => brokenKeys.has(key) && !sound.has(key)))
  return [...after, ...kept]
}

function loses(before: readonly Item[], after: readonly Item[]): boolean {
  const still = new Set(keysOf(after))
  return keysOf(before).some((key) => !still.has(key))
}

function keysOf(items: readonly Item[]): readonly string[] {
  return items.flatMap(({ reading }) =>
    reading.kind === 'service' || reading.kind === 'endpointSlice' ? [keyOf(reading.value)] : []
  )
}

function stillCounts(problem: Problem): Problem {
  return { ...problem, message: `${problem.message} (the last good content still counts)` }
}
