// The type of the answers that handlers of the admin API return, and texts that several handlers use.
import type { Answer } from '../../api/answers.ts'

/** An answer without `apiVersion`, which the server adds. */
export type Body<A extends Answer> = Omit<A, 'apiVersion'>

/** Describes a conflict, for example "pod prefix 10.1.0.0/16 belongs to east, whose certificate is older". */
export function conflictText({
  what,
  value,
  winner
}: {
  readonly what: string
  readonly value: string
  readonly winner: string
}): string {
  const words: Record<string, string> = {
    name: 'name',
    podPrefix: 'pod prefix',
    servicePrefix: 'service prefix'
  }
  return `${words[what] ?? what} ${value} belongs to ${winner}, whose certificate is older`
}
