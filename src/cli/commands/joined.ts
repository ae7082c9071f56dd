// The text that `init` and `join` print when they succeed: the same facts in the same order, so that a user can compare
// two clusters.
import type { JoinedAnswer } from '../../api/membership-answers.ts'
import type { Rendered } from '../meshd/context.ts'
import { prefixesText } from '../meshd/real-prefixes.ts'
import { formatFields } from '../output/table.ts'

/** Returns the page. `headline` is its first line. `next` is the note with the next steps, which goes to stderr. */
export function renderJoined(answer: JoinedAnswer, headline: string, next: string): Rendered {
  const others = answer.members.filter((member) => member !== answer.cluster)
  const fields = formatFields([
    ['Cluster', answer.cluster],
    ['Mesh', answer.meshId],
    ['Peer ID', answer.peerId],
    ['Pods', prefixesText(answer.podCidrs, answer) || 'none'],
    ['Services', prefixesText(answer.serviceCidrs, answer) || 'none'],
    ...(answer.warnings ?? []).map((warning) => ['Warning', warning] as const),
    ...(others.length === 0 ? [] : [['Members', others.join(', ')] as const])
  ])
  return { body: `${headline}\n\n${fields}`, note: next }
}
