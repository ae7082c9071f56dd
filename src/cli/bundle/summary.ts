// What `meshctl bundle` prints of the archive that it has written: so that a person knows what leaves this host.
import type { Answer } from '../../api/answers.ts'
import type { Context, Rendered } from '../meshd/context.ts'
import { formatTable } from '../output/table.ts'
import { formatBytes } from '../output/units.ts'
import type { Kept, Missing } from './gather.ts'

/** What is printed of a bundle; with -o json as it is. meshctl makes it, since meshd knows nothing of the file. */
export interface BundleAnswer extends Answer {
  /** The path as it was given; "-" for standard output. */
  readonly file: string
  /** The size of the archive. */
  readonly bytes: number
  /** Why there is nothing of the agent; absent: it has answered. */
  readonly agentError?: string
  readonly files: readonly Kept[]
  readonly missing: readonly Missing[]
  /** Values that had the shape of a secret. */
  readonly removed: number
}

/** The file, what is in it and what is not, and what a reader of it learns. */
export function renderBundle(answer: BundleAnswer, context: Context): Rendered {
  const table = formatTable<Kept>(
    answer.files,
    [
      { title: 'FILE', value: ({ name }) => name },
      { title: 'SIZE', value: ({ bytes }) => formatBytes(bytes) },
      {
        title: 'CONTENT',
        fold: 0,
        value: ({ what, cutBytes }) =>
          cutBytes === undefined ? what : `${what}; its last ${formatBytes(cutBytes)} are left out`
      }
    ],
    context
  )
  const lines = [
    `Wrote ${answer.file} (${formatBytes(answer.bytes)})`,
    ...(answer.agentError === undefined
      ? []
      : [context.style.paint('yellow', `It has nothing of the agent: ${answer.agentError}`)]),
    '',
    table,
    ...(answer.missing.length === 0 ? [] : ['', 'Not in it', ...missingLines(answer.missing)]),
    '',
    `It has no keys, seeds or tokens: ${answer.removed} values that look like one were replaced by [removed].`,
    'It has the names of clusters, services and hosts, and addresses: look before you send it to others.'
  ]
  return { body: lines.join('\n') }
}

/** One line for each reason, with the files for which it holds: a dead agent is one reason for a dozen files. */
function missingLines(missing: readonly Missing[]): readonly string[] {
  const byReason = Map.groupBy(missing, ({ reason }) => reason)
  return [...byReason].map(([reason, files]) => `  - ${files.map(({ name }) => name).join(', ')}: ${reason}`)
}
