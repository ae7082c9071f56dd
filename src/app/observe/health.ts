// The one registry of what is wrong with this agent. Each part sets a fault when it sees one and clears it when the fault has gone;
// the log, `meshctl status`, `meshctl peers`, /readyz, the metrics and the JSON answers read this registry and nothing else.
// Invariants:
//  1. A fault is identified by (code, subject). Setting it again with the same text changes nothing and logs nothing.
//  2. The log has one line when a fault appears, one when its text changes, one when it is cleared.
//  3. The registry is bounded: SUBJECTS_MAX faults per code (the rest is counted) and TEXT_CHARACTERS_MAX per text. Texts that quote a
//     peer or a tenant are cleaned: control characters become spaces.
//  4. `faults()` gives the worst first: by severity, then the oldest first.
import type { Log } from './log.ts'
import { explain } from './errors.ts'

/**
 * `critical`: traffic of this cluster is dead, or the agent does not do its main job (/readyz answers 503).
 * `error`: one cluster, service or part does not work; the others do.
 * `warning`: everything works, but the operator should act.
 */
export type Severity = 'critical' | 'error' | 'warning'

export interface FaultText {
  readonly severity: Severity
  /** One plain sentence without a full stop: what is wrong, with names and numbers. */
  readonly message: string
  /** One plain sentence without a full stop: what the operator does about it. */
  readonly fix: string
}

export interface Fault extends FaultText {
  /** Stable, for programs: UPPER_SNAKE_CASE, for example TUNNEL_DOWN. Fixed in number: never made of a peer's bytes. */
  readonly code: string
  /** What it is about, for example a cluster, a prefix, a tool or a setting; '' when there is only one. */
  readonly subject: string
  /** Time of day in milliseconds, for people. */
  readonly sinceMs: number
}

const SUBJECTS_MAX = 20 // per code: a page of `meshctl status` has room for a few of each kind
const TEXT_CHARACTERS_MAX = 400 // five lines of a terminal
const SUBJECT_CHARACTERS_MAX = 120
const RANK: Readonly<Record<Severity, number>> = { critical: 0, error: 1, warning: 2 }

export class Health {
  readonly #log: Pick<Log, 'info' | 'warn' | 'error'>
  readonly #now: () => number
  readonly #onChange: () => void
  readonly #byCode = new Map<string, Map<string, Fault>>()
  /** Faults beyond SUBJECTS_MAX at the last `replace` of each code. */
  readonly #excess = new Map<string, number>()

  constructor(options: {
    readonly log: Pick<Log, 'info' | 'warn' | 'error'>
    /** Time of day in milliseconds. */
    readonly now: () => number
    readonly onChange?: () => void
  }) {
    this.#log = options.log
    this.#now = options.now
    this.#onChange = options.onChange ?? (() => undefined)
  }

  set(code: string, text: FaultText & { readonly subject?: string }): void {
    const subject = cleaned(text.subject ?? '', SUBJECT_CHARACTERS_MAX)
    const ofCode = this.#byCode.get(code) ?? new Map<string, Fault>()
    const before = ofCode.get(subject)
    if (before === undefined && ofCode.size >= SUBJECTS_MAX) return
    const fault: Fault = {
      code,
      subject,
      severity: text.severity,
      message: cleaned(text.message, TEXT_CHARACTERS_MAX),
      fix: cleaned(text.fix, TEXT_CHARACTERS_MAX),
      sinceMs: before?.sinceMs ?? this.#now()
    }
    if (before !== undefined && sameText(before, fault)) return
    ofCode.set(subject, fault)
    this.#byCode.set(code, ofCode)
    this.#log[fault.severity === 'warning' ? 'warn' : 'error'](
      { code, ...(subject === '' ? {} : { subject }), fix: fault.fix },
      fault.message
    )
    this.#onChange()
  }

  clear(code: string, subject = ''): void {
    const key = cleaned(subject, SUBJECT_CHARACTERS_MAX)
    const ofCode = this.#byCode.get(code)
    const before = ofCode?.get(key)
    if (ofCode === undefined || before === undefined) return
    ofCode.delete(key)
    if (ofCode.size === 0) this.#byCode.delete(code)
    this.#log.info({ code, ...(key === '' ? {} : { subject: key }) }, `recovered: ${before.message}`)
    this.#onChange()
  }

  /** The whole list of one code: what is not in it any more is cleared. */
  replace(code: string, texts: readonly (FaultText & { readonly subject: string })[]): void {
    const kept = texts.slice(0, SUBJECTS_MAX)
    const subjects = new Set(kept.map(({ subject }) => cleaned(subject, SUBJECT_CHARACTERS_MAX)))
    for (const subject of this.#byCode.get(code)?.keys() ?? [])
      if (!subjects.has(subject)) this.clear(code, subject)
    for (const text of kept) this.set(code, text)
    const excess = texts.length - kept.length
    if (excess === (this.#excess.get(code) ?? 0)) return
    if (excess === 0) this.#excess.delete(code)
    else this.#excess.set(code, excess)
    this.#onChange()
  }

  /** An error of this tree as a fault: its message, and its fix where it has one. */
  setError(
    code: string,
    error: unknown,
    text: Omit<FaultText, 'message'> & { readonly subject?: string }
  ): void {
    const { message, fix } = explain(error)
    this.set(code, { ...text, message, fix: fix ?? text.fix })
  }

  /** The worst first. */
  faults(): readonly Fault[] {
    return [...this.#byCode.values()]
      .flatMap((ofCode) => [...ofCode.values()])
      .sort((a, b) => RANK[a.severity] - RANK[b.severity] || a.sinceMs - b.sinceMs)
  }

  /** Faults that are not in the list, by code. */
  excess(): ReadonlyMap<string, number> {
    return this.#excess
  }

  has(code: string, subject = ''): boolean {
    return this.#byCode.get(code)?.has(cleaned(subject, SUBJECT_CHARACTERS_MAX)) ?? false
  }

  worst(): Fault | undefined {
    return this.faults()[0]
  }
}

/** For a status line: what is wrong, and what to do. */
export function faultSentence({ message, fix }: Pick<FaultText, 'message' | 'fix'>): string {
  return fix === '' ? message : `${message}; ${fix}`
}

function sameText(a: Fault, b: Fault): boolean {
  return a.severity === b.severity && a.message === b.message && a.fix === b.fix
}

// Control characters, and the marks that turn the direction of text or break a line.
// oxlint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+/g

function cleaned(text: string, charactersMax: number): string {
  const printable = text
    .slice(0, charactersMax * 4)
    .replace(UNPRINTABLE, ' ')
    .trim()
  return printable.length <= charactersMax ? printable : `${printable.slice(0, charactersMax - 1)}…`
}
