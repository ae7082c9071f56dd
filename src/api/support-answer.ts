// The answer of GET /v1/support for `meshctl bundle`: what only the running agent knows of itself.
import type { Answer } from './answers.ts'

export interface SupportAnswer extends Answer {
  /** The settings in force, by their keys. */
  readonly settings: Readonly<Record<string, unknown>>
  /** The latest lines of the log, the oldest first, each with its line break. `left`: earlier ones that are not kept. */
  readonly log: { readonly lines: readonly string[]; readonly left: number }
  /** The text of /metrics. */
  readonly metrics: string
}
