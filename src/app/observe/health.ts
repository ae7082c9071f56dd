// The one registry of what is wrong with this agent (docs/decisions/0059). Each part sets a fault when it sees one
// and clears the fault when it has gone; the log, `meshctl status`, `meshctl peers`, /readyz, the metrics and the
// JSON answers read this registry and nothing else.
// Invariants:
//  1. A fault is identified by (code, subject). Setting it again with the same text changes nothing and logs nothing.
//  2. The log has one line when a fault appears, one when its text changes, one when it is cleared.
//  3. The registry is bounded: LISTED_MAX listed faults per code and TEXT_CHARACTERS_MAX per text. Faults beyond that
//     bound are counted (`excess`), those of `set` up to WAITING_MAX. Texts that quote a peer or a tenant are cleaned: control characters become spaces.
//  4. `faults()` is sorted by severity, the worst first; faults of one severity are in the order of their age, the
//     oldest first.
import type { Log } from './log.ts'
import { explain } from './errors.ts'

/**
 * `critical`: traffic of this cluster is dead, or the agent does not do its main job (/readyz answers 503).
 * `error`: one cluster, service or part does not work; the others do.
 * `warning`: everything works, but the operator should act.
 */
export type Severity = 'critical' | 'error' | 'warning'

/**
 * What operators read about a fault. Each new text is a line of the log (invariant 2), so a text has no age and no
 * counter that changes all the time.
 */
export interface FaultText {
  readonly severity: Severity
  /** One plain sentence without a full stop: what is wrong, with names and numbers. */
  readonly message: string
  /** One plain sentence without a full stop: what the operator does about it. */
  readonly fix: string
}

/** A fault as the registry keeps it. */
export interface Fault extends FaultText {
  /**
   * Stable, for programs: UPPER_SNAKE_CASE, for example TUNNEL_DOWN. The set of codes is fixed: no code is made of
   * bytes that a peer sent.
   */
  readonly code: string
  /** The object of the fault, for example a cluster, a prefix, a tool or a setting; '' when the code has only one. */
  readonly subject: string
  /** The time at which the fault appeared, in Unix milliseconds. A change of its text keeps this time. */
  readonly sinceMs: number
}

/** Listed faults per code: a page of `meshctl status` has room for a few of each kind. */
export const LISTED_MAX = 20
// Per code: faults that are counted and not listed. A thousand is more than there are members of one mesh, and a text of
// each takes at most a megabyte together.
const WAITING_MAX = 1000
const TEXT_CHARACTERS_MAX = 400 // five lines of a terminal
// A subject is a name: a cluster and a node, a key of a record, a path.
const SUBJECT_CHARACTERS_MAX = 120
const RANK: Readonly<Record<Severity, number>> = { critical: 0, error: 1, warning: 2 }

/** The registry. One instance lives as long as the process and is shared by all parts of the agent. */
export class Health {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  readonly #now: () => number
  readonly #listed = new Map<string, Map<string, Fault>>()
  /**
   * Faults that `set` was given while its code had LISTED_MAX, by code and subject, oldest first. Each is listed when
   * a place is free.
   */
  readonly #waiting = new Map<string, Map<string, Fault>>()
  /** The number of texts that the last `replace` of each code did not list. */
  readonly #unlisted = new Map<string, number>()

  constructor(options: {
    readonly log: Pick<Log, 'info' | 'warn' | 'error'>
    /** Returns the time of day in Unix milliseconds. */
    readonly now: () => number
  }) {
    this.#log = options.log
    this.#now = options.now
  }

  /**
   * Sets a fault, or changes its text when (code, subject) is set already. `subject` is '' by default. A new subject
   * waits when the code has LISTED_MAX faults: it is counted in `excess`, and listed once another one is cleared.
   */
  set(code: string, text: FaultText & { readonly subject?: string }): void {
    const subject = cleaned(text.subject ?? '', SUBJECT_CHARACTERS_MAX)
    const listed = this.#listed.get(code)
    const before = listed?.get(subject) ?? this.#waiting.get(code)?.get(subject)
    const fault: Fault = {
      code,
      subject,
      severity: text.severity,
      message: cleaned(text.message, TEXT_CHARACTERS_MAX),
      fix: cleaned(text.fix, TEXT_CHARACTERS_MAX),
      sinceMs: before?.sinceMs ?? this.#now()
    }
    if (listed?.has(subject) !== true && (listed?.size ?? 0) >= LISTED_MAX) this.#wait(fault)
    else if (before === undefined || !sameText(before, fault)) this.#list(fault)
  }

  /** Removes a fault and logs its message as recovered. Does nothing when there is no such fault. */
  clear(code: string, subject = ''): void {
    const key = cleaned(subject, SUBJECT_CHARACTERS_MAX)
    const ofCode = this.#listed.get(code)
    const before = ofCode?.get(key)
    if (ofCode === undefined || before === undefined) return this.#forget(code, key)
    ofCode.delete(key)
    if (ofCode.size === 0) this.#listed.delete(code)
    this.#log.info({ code, ...(key === '' ? {} : { subject: key }) }, `recovered: ${before.message}`)
    const [next] = this.#waiting.get(code)?.values() ?? []
    if (next === undefined) return
    this.#forget(code, next.subject)
    this.#list(next)
  }

  /**
   * Sets the whole list of one code: faults that are not in `texts` are cleared. Of more than LISTED_MAX subjects the
   * first are kept, of several texts with one subject the first; the others are counted in `excess`. A part that
   * computes all its faults at once calls this.
   */
  replace(code: string, texts: readonly (FaultText & { readonly subject: string })[]): void {
    const kept = new Map<string, FaultText>()
    for (const text of texts) {
      const subject = cleaned(text.subject, SUBJECT_CHARACTERS_MAX)
      if (kept.size < LISTED_MAX && !kept.has(subject)) kept.set(subject, text)
    }
    this.#waiting.delete(code)
    for (const subject of this.#listed.get(code)?.keys() ?? [])
      if (!kept.has(subject)) this.clear(code, subject)
    for (const [subject, text] of kept) this.set(code, { ...text, subject })
    const unlisted = texts.length - kept.size
    if (unlisted === 0) this.#unlisted.delete(code)
    else this.#unlisted.set(code, unlisted)
  }

  /**
   * Sets the fault that an error of this program describes: its message, and its fix. `text.fix` is used when the
   * error has no fix.
   */
  setError(
    code: string,
    error: unknown,
    text: Omit<FaultText, 'message'> & { readonly subject?: string }
  ): void {
    const { message, fix } = explain(error)
    this.set(code, { ...text, message, fix: fix ?? text.fix })
  }

  /** Returns all faults in the order of invariant 4. */
  faults(): readonly Fault[] {
    return [...this.#listed.values()]
      .flatMap((ofCode) => [...ofCode.values()])
      .sort((a, b) => RANK[a.severity] - RANK[b.severity] || a.sinceMs - b.sinceMs)
  }

  /** Returns by code the number of faults that `faults` leaves out. Codes without such faults are absent. */
  excess(): ReadonlyMap<string, number> {
    const counts = new Map(this.#unlisted)
    for (const [code, { size }] of this.#waiting) counts.set(code, (counts.get(code) ?? 0) + size)
    return counts
  }

  /** Returns whether this fault is set, listed or not. */
  has(code: string, subject = ''): boolean {
    const key = cleaned(subject, SUBJECT_CHARACTERS_MAX)
    return [this.#listed, this.#waiting].some((faults) => faults.get(code)?.has(key) === true)
  }

  #list(fault: Fault): void {
    const { code, subject, severity, message, fix } = fault
    const ofCode = this.#listed.get(code) ?? new Map<string, Fault>()
    ofCode.set(subject, fault)
    this.#listed.set(code, ofCode)
    const log = severity === 'warning' ? 'warn' : 'error'
    this.#log[log]({ code, ...(subject === '' ? {} : { subject }), fix }, message)
  }

  /** Keeps a fault for which its code has no place. */
  #wait(fault: Fault): void {
    const ofCode = this.#waiting.get(fault.code) ?? new Map<string, Fault>()
    const isNew = !ofCode.has(fault.subject)
    if (isNew && ofCode.size >= WAITING_MAX) return
    ofCode.set(fault.subject, fault)
    this.#waiting.set(fault.code, ofCode)
  }

  /** Drops a fault that waits for a place. */
  #forget(code: string, subject: string): void {
    const ofCode = this.#waiting.get(code)
    ofCode?.delete(subject)
    if (ofCode?.size === 0) this.#waiting.delete(code)
  }
}

/** Returns one line for a status page: the message, then the fix after a semicolon. An empty fix is left out. */
export function faultSentence({ message, fix }: Pick<FaultText, 'message' | 'fix'>): string {
  return fix === '' ? message : `${message}; ${fix}`
}

function sameText(a: Fault, b: Fault): boolean {
  return a.severity === b.severity && a.message === b.message && a.fix === b.fix
}

// Control characters, marks that change the direction of text, and separators of lines and paragraphs. A text that a
// peer chose must not steer the operator's terminal or look like a second line of output.
// oxlint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g

/**
 * Replaces runs of unprintable characters by one space and cuts the text to `charactersMax`, with `…` at its end. The
 * first cut, at four times the length, bounds the work for a huge text.
 */
function cleaned(text: string, charactersMax: number): string {
  const printable = text
    .slice(0, charactersMax * 4)
    .replace(UNPRINTABLE, ' ')
    .trim()
  return printable.length <= charactersMax ? printable : `${printable.slice(0, charactersMax - 1)}…`
}
