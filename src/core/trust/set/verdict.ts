// Why something stands or not. meshctl shows the reason and the statements that cause it.
import type { StatementId } from './ids.ts'

/** The verdict on a seat, a statement, an admission or a cluster. */
export interface Verdict {
  readonly stands: boolean
  /** The rule of docs/trust-set.md that decided. */
  readonly rule: 'S1' | 'S2' | 'S3' | 'S4' | 'S5'
  /** The end of a sentence whose subject is what the verdict is on. */
  readonly reason: string
  /** Ids of the statements that cause it; empty where it is the ordinary case. */
  readonly causes: readonly StatementId[]
}

/** It stands. */
export function stands(rule: Verdict['rule'], reason: string, causes: readonly HasId[] = []): Verdict {
  return { stands: true, rule, reason, causes: causes.map(({ id }) => id) }
}

/** It does not stand. */
export function falls(rule: Verdict['rule'], reason: string, causes: readonly HasId[] = []): Verdict {
  return { stands: false, rule, reason, causes: causes.map(({ id }) => id) }
}

interface HasId {
  readonly id: StatementId
}
